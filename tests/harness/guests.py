# SPDX-License-Identifier: Apache-2.0
"""Harness: guests whose real agents die and come back at once, and the counter file that tells what they executed.

A counter file stands outside the system. Each hook writes ``start`` with its attempt and the pid of its shim into it
before anything else, and ``end`` when it is through; so the file proves how often an attempt was executed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from guest_agent.failpoints import VARIABLE
from tests.harness.machine import Machine, end_process, processes_of, state_of, wait_for
from tests.harness.nursery import Child, Nursery

AGENT = "guest_agent.main"


class Guest(Machine):
    """One guest of one agent, forked by a nursery. ``failpoints`` is the directory in which its moments are armed."""

    def __init__(
        self, nursery: Nursery, directory: Path, url: str, agent_id: str, join_token: str, **options: str
    ) -> None:
        super().__init__(directory, url, agent_id, join_token, **options)
        self._nursery = nursery
        self._child: Child | None = None
        self._starting = threading.Lock()
        self.failpoints = directory / "failpoints"
        self.failpoints.mkdir()
        self.starts = 0
        self.environment: dict[str, str] = {}
        self.before = "tests.faults.agent.sabotage:prepare"

    @property
    def pid(self) -> int:
        """The living or last process."""
        assert self._child is not None
        return self._child.pid

    def start(self, **environment: str) -> None:
        with self._starting:
            argv = ["run", "--config", str(self.config)]
            env = {VARIABLE: str(self.failpoints), **self.environment, **environment}
            self._child = self._nursery.fork(argv, self.log, env, self.before)
            self.starts += 1

    def ended(self, within: float = 0) -> bool:
        return self._child is None or self._child.ended(within)

    def tell(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    def kill(self, number: int = signal.SIGKILL) -> int:
        child = self._child
        assert child is not None
        child.signal(signal.Signals(number))
        assert child.ended(30), "the agent does not end"
        return child.status

    def arm(self, name: str) -> Path:
        """Have the next process that comes to that moment die there; the file is gone then."""
        path = self.failpoints / name
        path.touch()
        return path

    @contextlib.contextmanager
    def kept_alive(self, **environment: str) -> Iterator[None]:
        """For the time of the block the agent is started again whenever it has died, as by systemd."""
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                if self.ended(0.05) and not over.is_set():
                    self.start(**environment)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(30)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[list[int]]:
        """For the time of the block the agent, its zygote and their shims are stopped, not ended: these pids."""
        stopped: list[int] = []
        try:
            if not self.ended():
                _stop(self.pid, stopped)
                zygotes, _ = shims_of(self.pid)
                for pid in zygotes:
                    _stop(pid, stopped)
                for pid in shims_of(self.pid)[1]:  # looked for again: a stopped zygote forks no more of them
                    _stop(pid, stopped)
            yield stopped
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def settle(self) -> None:
        """Return once nothing is left in the spool but what carries the next claim's id and past reports."""
        wait_for(lambda: self.spooled() == ["last", "past"])

    def end(self) -> None:
        if not self.ended():
            self.kill()
        for run in (self.state / "run").glob("*"):
            for pid in processes_of(f"HW_RUN={run.name}"):
                end_process(pid)


@dataclasses.dataclass
class Executed:
    """What a counter file tells: starts by attempt, attempts that came to their end, shims by attempt."""

    starts: collections.Counter[tuple[str, int]]
    ends: set[tuple[str, int]]
    shims: dict[tuple[str, int], int]

    @property
    def doubled(self) -> list[tuple[str, int]]:
        """Attempts that were started more than once."""
        return [attempt for attempt, count in self.starts.items() if count > 1]


class CounterFile:
    """The file of some guests' hooks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def script(self, work: str = "") -> str:
        """A hook that counts itself and leaves an output ``y`` by which its outcome is known."""
        me = "$HW_TASK_ID $HW_ATTEMPT $PPID"
        output = 'printf %s "$HW_TASK_ID/$HW_ATTEMPT" > ${heat_outputs_path}.y'
        return f'echo "start {me}" >> {self.path}\n{work}\n{output}\necho "end {me}" >> {self.path}\n'

    def read(self) -> Executed:
        executed = Executed(collections.Counter(), set(), {})
        for line in self.path.read_text().splitlines():
            word, task_id, attempt, shim = line.split()
            key = (task_id, int(attempt))
            if word == "start":
                executed.starts[key] += 1
                executed.shims[key] = int(shim)
            else:
                executed.ends.add(key)
        return executed


def shims_of(agent_pid: int) -> tuple[list[int], list[int]]:
    """The zygote of an agent, and the shims below it."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    zygotes = [pid for pid, parent in parents.items() if parent == agent_pid]
    return zygotes, [pid for pid, parent in parents.items() if parent in zygotes]


def _stop(pid: int, stopped: list[int]) -> None:
    """Stop a process and see it stopped, unless it has ended. It is put on the list of those to go on later."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)
    wait_for(lambda: state_of(pid) in ("T", "Z", "X", ""))
