# SPDX-License-Identifier: Apache-2.0
"""heat-workflow-api: serve the tasks API."""

from __future__ import annotations

import contextlib
import datetime
import gc
import pathlib
import sys

import uvicorn
from oslo_config import cfg
from oslo_log import log

from heat_workflow import authorities, errors
from heat_workflow import conf as options
from heat_workflow.api import app
from heat_workflow.cmd import serving
from heat_workflow.cmd.protocol import BoundedProtocol
from heat_workflow.cmd.room import Room, connections_most
from heat_workflow.cmd.sparing import spare_the_log


class _Protocol(BoundedProtocol):
    """One connection of this process."""


LOG = log.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; 1 with a message for a configuration that cannot work."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    options.register(conf)
    conf(sys.argv[1:] if argv is None else argv, project="heat-workflow")
    log.setup(conf, "heat-workflow")
    spare_the_log()
    try:
        application = app.compose(conf)
    except errors.HeatWorkflowError as exc:
        print(f"heat-workflow-api: {exc.detail}", file=sys.stderr)
        return 1
    _tell_faults(conf.api.cert_file)
    _spare_the_collector()
    _Protocol.room = Room(connections_most())
    config = uvicorn.Config(
        application,
        http=_Protocol,
        ws="none",
        lifespan="on",
        proxy_headers=False,  # the application knows which proxies to believe
        host=conf.api.bind_host,
        port=conf.api.bind_port,
        ssl_certfile=conf.api.cert_file,
        ssl_keyfile=conf.api.key_file,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=serving.ANSWER_MOST,
        timeout_keep_alive=75,
        backlog=4096,
    )
    server = serving.Server(config, application.state.end_waits)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


def _tell_faults(cert_file: str | None) -> None:
    """A certificate that guests will refuse is said at the start: they cannot say it here."""
    if not cert_file:
        return
    try:
        chain = pathlib.Path(cert_file).read_bytes()
    except OSError:
        return  # the server itself says what is wrong with it
    for fault in authorities.faults_of_server(chain, datetime.datetime.now(datetime.timezone.utc)):
        LOG.warning("guests may refuse this API: cert_file %s: %s", cert_file, fault)


def _spare_the_collector() -> None:
    """Keep garbage collection away from what lives as long as the process, and let it come less often.

    A batch of five hundred tasks makes a hundred thousand objects of which hardly one is garbage: at the usual
    threshold a tenth of the time went into looking for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    sys.exit(main())
