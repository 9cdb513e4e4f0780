# SPDX-License-Identifier: Apache-2.0
"""Heat server: engine and API in one process, joined by the in-process message transport."""

import sys
from pathlib import Path

from oslo_service import backend

# ruff: noqa: E402 -- before anything else of OpenStack is imported, or eventlet would be loaded.
backend.init_backend(backend.BackendType.THREADING)

import oslo_i18n
from heat import version
from heat.common import config, messaging
from heat.db import migration
from heat.engine import service
from heat.rpc import api as rpc_api
from oslo_config import cfg
from oslo_log import log

from devcloud.heat_kill import obey_kills
from devcloud.settings import load_settings
from devcloud.sqlite import create_database, is_complete, mark_complete, take_write_lock_late
from devcloud.wsgi import serve

CONF = cfg.CONF
THREADS = 32


def main(directory: Path) -> None:
    """Serve the Heat of the cloud in the directory; a database that is there is used as it is."""
    take_write_lock_late()
    oslo_i18n.enable_lazy()
    log.register_options(CONF)
    CONF(
        args=[],
        project="heat",
        prog="heat-engine",
        version=version.version_info.version_string(),
        default_config_files=[str(directory / "heat.conf")],
    )
    log.setup(CONF, "heat")
    obey_kills(directory)  # it loads resource types, and Heat reads the defaults of their properties from CONF then
    config.set_config_defaults()
    database = directory / "heat.sqlite"
    if not is_complete(database):
        create_database(database, migration.db_sync)
        mark_complete(database)
    messaging.setup()
    config.startup_sanity_check()
    engine = service.EngineService(CONF.host, rpc_api.ENGINE_TOPIC)
    engine.start()
    serve(config.load_paste_app("heat-api"), load_settings(directory).heat_port, THREADS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
