# SPDX-License-Identifier: Apache-2.0
"""Harness: a warm process that forks real API or agent processes, so that one starts in a tenth of a second.

A child is a process of its own with its own environment, log and command line; only the imports were done before it
was born. Tests that kill hundreds of replicas would spend their time on imports otherwise.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from pathlib import Path
from typing import Any

from tests.harness.waiters import is_readable

_PR_SET_PDEATHSIG = 1


class Child:
    """One forked process."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._handle = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._handle)  # not before, for several threads may wait on it
        self._status: int | None = None
        self._asked = threading.Lock()

    def ended(self, within: float = 0) -> bool:
        """Whether the process is gone, waiting for that up to ``within`` seconds."""
        if self._status is None and is_readable(self._handle, within):
            with self._asked:
                if self._status is None:
                    self._status = int(self._nursery.ask({"wait": self.pid})["status"])
        return self._status is not None

    @property
    def status(self) -> int:
        """The exit status, minus the signal for one that was killed."""
        assert self._status is not None, f"process {self.pid} runs"
        return self._status

    def signal(self, number: signal.Signals) -> None:
        if not self.ended():
            os.kill(self.pid, number)


class Nursery:
    """The warm process, as the tests see it. Its children end with it."""

    def __init__(self, door: str = "heat_workflow.cmd.api") -> None:
        """Its children run ``main`` of the module ``door``."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, door], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()

    def fork(self, argv: list[str], log: Path, env: dict[str, str], before: str | None = None) -> Child:
        """A process with this command line. ``before`` (``module:function``) is called in it first."""
        born = self.ask({"argv": argv, "log": str(log), "env": env, "before": before})
        return Child(self, int(born["pid"]))

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
            return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def main() -> None:
    """Take orders, a line of JSON each, until there are no more; then end the children."""
    door = importlib.import_module(sys.argv[1])
    if door.__name__.startswith("guest_agent"):
        _load_all("guest_agent")
    gc.collect()
    gc.freeze()
    living: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            living.discard(order["wait"])
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                _live(order, door.main)
            living.add(pid)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _load_all(package: str) -> None:
    """The agent imports most of itself only when it runs."""
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _live(order: dict[str, Any], run: Any) -> None:
    """The child's life."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["env"])
    status = 1
    try:
        if order["before"]:
            module, _, function = order["before"].partition(":")
            getattr(importlib.import_module(module), function)()
        status = run(order["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
