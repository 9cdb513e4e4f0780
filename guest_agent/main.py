# SPDX-License-Identifier: Apache-2.0
"""The command ``heat-workflow-agent``: run, enroll, status."""

from __future__ import annotations

import argparse
import logging
import os
import random
import resource
import signal
import socket
import sys
import time
from typing import NoReturn

from guest_agent import VERSION
from guest_agent.config import DEFAULT_PATH, Config, load_config
from guest_agent.errors import AgentError, ConfigError, UpgradeError
from guest_agent.home import check_own_file, find_own_file
from guest_agent.lean import leave_out_charset_detection
from guest_agent.scope import leave_unit
from guest_agent.state_dir import StateDir, boot_id, find_holder, leave_stop_mark
from guest_agent.status import StatusFile, describe, find_status
from guest_agent.zygote import fork_zygote

LOG = logging.getLogger("guest_agent")

OK, TROUBLE, NOT_CONFIGURED, RESTART = 0, 1, 2, 75
_CA_NAME = "ca.pem"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 (trouble), 2 (not configured) or 75 (to be started again)."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    os.umask(0o077)
    command = {"run": _run, "enroll": _enroll, "status": _status, "upgrade": _upgrade}[arguments.command]
    try:
        if command is not _status:
            check_own_file()
        return command(arguments.config)
    except ConfigError as error:
        print(f"heat-workflow-agent: {error}", file=sys.stderr)
        return NOT_CONFIGURED
    except (AgentError, OSError) as error:
        print(f"heat-workflow-agent: {error}", file=sys.stderr)
        return TROUBLE
    except KeyboardInterrupt:
        return OK


def _run(path: str) -> int:
    """The zygote is forked first: it must see no secret, no thread, no socket of ours.

    SIGTERM stops us anywhere, SIGHUP has us started again: the journal stands all the same, and hooks go on under their
    shims. Not by an exception: one raised inside a callback of the import machinery is swallowed (seen under random
    kills).
    """
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(OK))
    signal.signal(signal.SIGHUP, lambda _number, _frame: os._exit(RESTART))
    _no_core_dumps()
    zygote = fork_zygote()
    leave_unit(zygote[0])
    return _serve(path, zygote)


def _serve(path: str, zygote: tuple[int, socket.socket]) -> int:
    leave_out_charset_detection()
    from guest_agent.api_client import ApiClient
    from guest_agent.backoff import Backoff
    from guest_agent.hooks import Hooks
    from guest_agent.hooks.heat_config import HeatConfigHook
    from guest_agent.identity import Identity
    from guest_agent.interruption import Interruptions
    from guest_agent.inventory import find_hw_uuid
    from guest_agent.live_configs import LiveConfigs
    from guest_agent.loop import Loop
    from guest_agent.runner import Runner
    from guest_agent.spool import Spool

    config = load_config(path)
    state = StateDir(config.state_dir)
    state.lock()
    boot = boot_id()
    identity = Identity(config, state.root, boot, find_hw_uuid() or "")
    LOG.info("agent %s: version %s, API %s", config.agent_id, VERSION, config.api_url)
    spool = Spool(state.spool, boot)
    runner = Runner(state, zygote, config.hook_path, config.hook_file_size)
    interruptions = Interruptions(runner, spool, boot, config.reboot_command)
    if not state.take_stop_mark():
        interruptions.stop_poison()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: _stop(state, OK))
    signal.signal(signal.SIGHUP, lambda _number, _frame: _stop(state, RESTART))
    shell_config = os.environ.get("HEAT_SHELL_CONFIG", "")
    heat_config = HeatConfigHook(_hooks_dirs(config), LiveConfigs(state.root), shell_config)
    try:
        Loop(
            client=ApiClient(config.api_url, _ca_file(config, state), identity.token),
            identity=identity,
            spool=spool,
            runner=runner,
            hooks=Hooks(heat_config),
            status=StatusFile(state.root, config.agent_id),
            backoff=Backoff(random.Random()),
            reload_config=lambda: load_config(path),
            interruptions=interruptions,
        ).run()
    finally:
        runner.close()
    return OK


def _enroll(path: str) -> int:
    """Enroll once and stop; for images and scripts that start the agent later."""
    from guest_agent.api_client import ApiClient
    from guest_agent.identity import Identity
    from guest_agent.inventory import find_hw_uuid

    config = load_config(path)
    state = StateDir(config.state_dir)
    state.lock()
    identity = Identity(config, state.root, boot_id(), find_hw_uuid() or "")
    client = ApiClient(config.api_url, _ca_file(config, state), identity.token)
    identity.ensure_enrolled(client)
    client.close()
    StatusFile(state.root, config.agent_id).contact("start the agent: heat-workflow-agent run")
    print(f"agent {identity.agent_id}: enrolled")
    return OK


def _status(path: str) -> int:
    config = load_config(path)
    status = find_status(config.state_dir)
    if status is None:
        print(f"agent {config.agent_id}: never enrolled; next step: heat-workflow-agent run --config {path}")
        return NOT_CONFIGURED
    text, code = describe(status, alive=find_holder(config.state_dir) is not None, now=time.time())
    print(text)
    return code


def _upgrade(_path: str) -> int:
    """What a task of group ``heat-workflow-agent`` runs: its order comes on standard input, as the task's inputs."""
    from guest_agent.api_client import ApiClient
    from guest_agent.slots import Slots
    from guest_agent.upgrade import Upgrade, read_wish

    wish = read_wish(sys.stdin.read())
    own = find_own_file()
    if own is None:
        raise UpgradeError("this agent is not one file: exchange it in the way it was installed")
    slots = Slots(os.path.dirname(own))
    config = load_config(slots.find_settings())
    client = ApiClient(config.api_url, _ca_file(config, StateDir(config.state_dir)), str)
    Upgrade(slots, config.state_dir, client, wish).run()
    return OK


def _hooks_dirs(config: Config) -> tuple[str, ...]:
    """Those of the settings, and before them the one that heat-config takes from its environment."""
    named = os.environ.get("HEAT_CONFIG_HOOKS")
    return (named, *config.hooks_dirs) if named else config.hooks_dirs


def _ca_file(config: Config, state: StateDir) -> str | None:
    """The CA as a file: requests takes no other form."""
    if config.ca_pem is None:
        return config.ca_file
    state.root.replace(_CA_NAME, config.ca_pem.encode(), durable=False)
    return os.path.join(state.path, _CA_NAME)


def _no_core_dumps() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _stop(state: StateDir, status: int) -> NoReturn:
    """A signal to a running agent: the next one shall know that no hook brought this one down."""
    leave_stop_mark(state.path)
    os._exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heat-workflow-agent", description="The agent of heat-workflow.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|enroll|status|upgrade")
    for name, text in (
        ("run", "work until stopped or revoked; enrolls first if that has not been done"),
        ("enroll", "exchange the join token for a credential and stop"),
        ("status", "tell last contact, last error, next step; exit code 0 well, 1 trouble, 2 not configured"),
        ("upgrade", 'exchange the agent for another release; standard input says which: {"sha256": "..."}'),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", default=DEFAULT_PATH, help="the settings (default: %(default)s)")
        command.add_argument("--verbose", action="store_true", help="log more")
    return parser
