# SPDX-License-Identifier: Apache-2.0
"""Killer: kill -9 of agents, their zygotes and shims at random times, while a feeder keeps them all at work."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

from tests.harness.callers import Operator, new_id
from tests.harness.guests import CounterFile, Guest, shims_of

_BATCH = 40
_OPEN_LEAST = 40  # unfinished tasks; fewer and more are added


class AgentKiller(threading.Thread):
    """So many kills; whom and when the seed says. Shims whose agent was killed before stay targets."""

    def __init__(self, guests: list[Guest], kills: int, seed: int, pause: tuple[float, float]) -> None:
        super().__init__(name="agent-killer", daemon=True)
        self._guests = guests
        self._random = random.Random(seed)
        self._pause = pause
        self._left = kills
        self._orphans: list[tuple[int, int]] = []  # pid and a handle to it, for a pid may come again
        self.kills: collections.Counter[str] = collections.Counter()
        self.killed_shims: set[int] = set()
        self.error: BaseException | None = None

    @property
    def restarts(self) -> int:
        return sum(guest.starts - 1 for guest in self._guests)

    @contextlib.contextmanager
    def guests_kept_alive(self) -> Iterator[None]:
        """For the time of the block every agent that has died is started again."""
        with contextlib.ExitStack() as stack:
            for guest in self._guests:
                stack.enter_context(guest.kept_alive())
            yield
            for guest in self._guests:
                guest.settle()

    def run(self) -> None:
        try:
            while sum(self.kills.values()) < self._left:
                time.sleep(self._random.uniform(*self._pause))
                self._kill_one()
        except BaseException as exc:  # shown by the thread that waits for this one
            self.error = exc
        finally:
            for _, handle in self._orphans:
                os.close(handle)

    def _kill_one(self) -> None:
        guest = self._random.choice(self._guests)
        kind = self._random.choices(["agent", "shim", "zygote", "orphan"], [10, 8, 1, 3])[0]
        if guest.ended():
            return
        zygotes, shims = shims_of(guest.pid)
        if kind == "agent":
            self._orphans += [(pid, handle) for pid in shims if (handle := _handle(pid)) is not None]
            guest.kill()
            self.kills[kind] += 1
        elif kind == "orphan" and self._orphans:
            pid, handle = self._orphans.pop(self._random.randrange(len(self._orphans)))
            self._kill_shim(kind, pid, handle)
        elif kind == "shim" and shims:
            handle = _handle(shims[0])
            if handle is not None:
                self._kill_shim(kind, shims[0], handle)
        elif kind == "zygote" and zygotes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(zygotes[0], signal.SIGKILL)
                self.kills[kind] += 1

    def _kill_shim(self, kind: str, pid: int, handle: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            self.killed_shims.add(pid)
            self.kills[kind] += 1
        os.close(handle)


def _handle(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


class Feeder(threading.Thread):
    """Keeps tasks of a few milliseconds before every agent until ``finish``."""

    def __init__(
        self, operator: Operator, servers: list[str], counter: CounterFile, unfinished: Callable[[], int]
    ) -> None:
        super().__init__(name="feeder", daemon=True)
        self._operator = operator
        self._servers = servers
        self._counter = counter
        self._unfinished = unfinished
        self._over = threading.Event()
        self._random = random.Random(7)
        self.added = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                if self._unfinished() < _OPEN_LEAST:
                    self._add()
                else:
                    self._over.wait(0.05)
        except BaseException as exc:  # shown by ``finish``
            self.error = exc

    def finish(self) -> None:
        """Add no more and wait until all is done."""
        self._over.set()
        self.join(60)
        assert self.error is None, self.error
        until = time.monotonic() + 120
        while self._unfinished():
            assert time.monotonic() < until, f"{self._unfinished()} tasks do not end"
            time.sleep(0.05)

    def _add(self) -> None:
        tasks = [self._task() for _ in range(_BATCH)]
        answer = self._operator.call("PUT", f"/v1/workflows/{new_id()}", json={"name": "w", "tasks": tasks})
        assert answer.status_code == 201, answer.text
        self.added += len(tasks)

    def _task(self) -> dict[str, object]:
        work = self._random.choice(["", "", "sleep 0.01", "sleep 0.05", "setsid sleep 0.02", "echo out; echo err >&2"])
        return {
            "id": new_id(),
            "name": new_id(),
            "server": self._random.choice(self._servers),
            "definition": {"group": "script", "config": self._counter.script(work), "outputs": [{"name": "y"}]},
        }
