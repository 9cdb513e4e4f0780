# SPDX-License-Identifier: Apache-2.0
"""Loops: the background work of an API process. Each goes on after whatever it meets, and says how it is."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import threading
import time
from collections.abc import Callable, Iterator

from oslo_log import log

from heat_workflow import errors

LOG = log.getLogger(__name__)
LATE = 30.0  # seconds in which a round is to be finished
REMEMBERED = (
    60.0  # seconds that a failure is shown for, and that lie between two log lines of a loop that goes on failing
)


class LoopHealth(str, enum.Enum):
    """How a loop is."""

    OK = "ok"
    FAILING = "failing"  # a round has failed within the last minute
    LATE = "late"  # none has finished for long, though there is work


@dataclasses.dataclass(frozen=True)
class Seen:
    """A loop as it stands. Seconds: ``behind`` is how long there has been something to do since a round finished,
    ``finished_ago`` how long ago one did; before the first the start counts of a steady one, of another it is None."""

    name: str
    vital: bool
    health: LoopHealth
    failures: int
    behind: float
    finished_ago: float | None


class Loop:
    """One loop. From any thread."""

    def __init__(
        self,
        name: str,
        *,
        steady: bool = True,
        vital: bool = False,
        expected: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A ``steady`` one has a round to do at any time, another only between ``begin`` and its end. Without a
        ``vital`` one the process is of no use. ``expected`` errors are the world's, not ours: they are logged without
        a traceback, as is a store out of reach."""
        self.name = name
        self._steady = steady
        self._vital = vital
        self._expected: tuple[type[Exception], ...] = (errors.Unavailable, *expected)
        self._clock = clock
        self._lock = threading.Lock()
        self._finished_at: float | None = clock() if steady else None
        self._since = self._finished_at  # when the round was due that has not finished
        self._failed_at: float | None = None
        self._failures = 0
        self._logged: dict[type[Exception], float] = {}

    def begin(self) -> None:
        """There is something to do."""
        with self._lock:
            self._since = self._clock() if self._since is None else self._since

    def finish(self) -> None:
        """A round is over."""
        with self._lock:
            self._finished_at = self._clock()
            self._since = self._finished_at if self._steady else None

    def fail(self, exc: Exception) -> None:
        """Something was not done because of this. It is counted and logged: a kind of error with its traceback once,
        then in one line a minute."""
        with self._lock:
            now = self._clock()
            self._failed_at = now
            self._failures += 1
            if not self._steady:
                self._since = None
            kind = type(exc)
            last = self._logged.get(kind)
            if last is not None and now - last < REMEMBERED:
                return
            self._logged[kind] = now
            failures = self._failures
        if last is None and not isinstance(exc, self._expected):
            LOG.error("Background loop %s met an error and goes on (%d so far)", self.name, failures, exc_info=exc)
        else:
            said = exc.detail if isinstance(exc, errors.HeatWorkflowError) else kind.__name__
            LOG.warning("Background loop %s goes on after %s (%d errors so far)", self.name, said, failures)

    @contextlib.contextmanager
    def round(self) -> Iterator[None]:
        """One round: an error in it is counted and logged, and that is all."""
        self.begin()
        try:
            yield
        except Exception as exc:  # whatever it is: without the loop everything that waits for it would stand still
            self.fail(exc)
        else:
            self.finish()

    def seen(self) -> Seen:
        """How it is now."""
        with self._lock:
            now = self._clock()
            behind = 0.0 if self._since is None else now - self._since
            failing = self._failed_at is not None and now - self._failed_at < REMEMBERED
            health = LoopHealth.LATE if behind > LATE else LoopHealth.FAILING if failing else LoopHealth.OK
            ago = None if self._finished_at is None else now - self._finished_at
            return Seen(self.name, self._vital, health, self._failures, behind, ago)
