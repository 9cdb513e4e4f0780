# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m devcloud up`, `python -m devcloud demo` and `python -m devcloud agents`."""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from devcloud.cloud import DevCloud
from devcloud.demo import run_demo
from devcloud.fleet import fleet
from devcloud.settings import HOST, DevCloudError

WATCH_S = 1.0


def main() -> int:
    """Run one command; the exit status."""
    arguments = _parse()
    # SIGTERM takes the way of Ctrl-C, from the first moment on: everything that was started is ended.
    # Ctrl-C itself is set too: a shell has a command in the background ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with _directory(arguments.dir) as directory:
            if arguments.command == "up":
                return _up(directory, arguments.port_base, arguments.agents, arguments.guest_host)
            if arguments.command == "agents":
                return _agents(directory, arguments.count, arguments.name)
            return _demo(directory, arguments.template, arguments.environment)
    except KeyboardInterrupt:
        return 130 if arguments.command == "demo" else 0
    except DevCloudError as error:
        print(f"devcloud: {error}", file=sys.stderr)
        return 1


def _up(directory: Path, port_base: int | None, agents: bool, guest_host: str) -> int:
    with DevCloud(directory, port_base, agents, guest_host) as cloud:
        print("ready", json.dumps(cloud.ready()), flush=True)
        down: set[str] = set()
        while True:
            threading.Event().wait(WATCH_S)
            for server in cloud.servers:
                if not server.is_alive and server.name not in down:
                    down.add(server.name)
                    print(f"devcloud: {server.name} ended, see {server.log_path}", file=sys.stderr)


def _agents(directory: Path, count: int, name: str) -> int:
    with fleet(directory, count, name) as running:
        print("ready", json.dumps(running.servers), flush=True)
        while True:
            threading.Event().wait(WATCH_S)


def _demo(directory: Path, template: Path, environment: Path | None) -> int:
    print("starting Keystone, Heat and the tasks API ...", flush=True)
    began = time.monotonic()
    with DevCloud(directory) as cloud:
        print(f"up after {time.monotonic() - began:.1f} s; creating the stack of {template}\n", flush=True)
        return run_demo(cloud, template, environment)


@contextlib.contextmanager
def _directory(named: Path | None) -> Iterator[Path]:
    if named is not None:
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="devcloud-") as made:
        yield Path(made)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devcloud", description="A small real cloud on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring the cloud up until Ctrl-C; prints one line `ready {json}`")
    up.add_argument("--port-base", type=int, help="use this port and the three after it (default: free ones)")
    up.add_argument("--no-agents", dest="agents", action="store_false", help="start no agents for the stacks")
    guests = "the name or address by which guests reach this machine (default: %(default)s, for local agents)"
    up.add_argument("--guest-host", default=HOST, metavar="HOST", help=guests)
    demo = commands.add_parser("demo", help="bring the cloud up, create one stack, show its progress")
    demo.add_argument("template", type=Path)
    demo.add_argument("-e", "--environment", type=Path)
    agents = commands.add_parser(
        "agents", help="start agents at a cloud that is up until Ctrl-C; prints `ready {json}`"
    )
    agents.add_argument("count", type=int, help="how many; their servers are NAME-0, NAME-1, ...")
    agents.add_argument("--name", default="fleet", help="also the capability that all of them have (default: fleet)")
    agents.add_argument("--dir", type=Path, required=True, help="the directory of the cloud")
    for command in (up, demo):
        command.add_argument("--dir", type=Path, help="keep the files there (default: a directory removed at the end)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
