# SPDX-License-Identifier: Apache-2.0
"""Harness: a guest with a configuration, a state directory, a real agent process that can be started and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Machine:
    """One guest of one agent. ``options`` are further lines of ``[agent]``; what a test starts it ends."""

    def __init__(self, directory: Path, url: str, agent_id: str, join_token: str, **options: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.agent_id = agent_id
        self.state = directory / "state"
        self.config = directory / "agent.conf"
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.configure(url, join_token, **options)

    def configure(self, url: str, join_token: str, **options: str) -> None:
        lines = ["[agent]", f"api_url = {url}", f"agent_id = {self.agent_id}", f"join_token = {join_token}"]
        self.state = Path(options.get("state_dir", str(self.state)))
        options["state_dir"] = str(self.state)
        lines += [*(f"{name} = {value}" for name, value in options.items())]
        self.config.write_text("\n".join([*lines, ""]))

    def start(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "guest_agent", "run", "--config", str(self.config)],
                stderr=log,
                env={**os.environ, **environment},
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait()

    def end(self) -> None:
        """For the end of a test: no process of this guest stays, not even what its hooks left running."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for run in (self.state / "run").glob("*"):
            for pid in processes_of(f"HW_RUN={run.name}"):
                end_process(pid)

    def spooled(self) -> list[str]:
        """The records in the spool."""
        return sorted(path.name for path in (self.state / "spool").iterdir())


def processes_of(entry: str) -> list[int]:
    """Every process with this ``NAME=value`` in its environment, and its parent's shim with it."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            if entry.encode() in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def end_process(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def state_of(pid: int) -> str:
    """The letter by which the kernel tells what a process does (``T`` stopped, ``Z`` zombie), nothing for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    return state_of(pid) not in ("Z", "X", "")


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; fail when it does not come to hold."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)
