# SPDX-License-Identifier: Apache-2.0
"""Task queue: what can happen to tasks, workflows and agents, one transaction each.

The use cases are functions of a transaction; ``TaskQueue`` runs them on the store and holds the waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

from heat_workflow import errors
from heat_workflow.store import Asks, Store, Tx
from heat_workflow.wakeup import Wakeups

P = ParamSpec("P")
T = TypeVar("T")
_RACES_MOST = 20  # lost races for a task before the caller is told


def ending() -> errors.Unavailable:
    """For a request that this process cannot wait for any more."""
    return errors.Unavailable("this API process ends; repeat the request", code="ending", retry_after=1)


class TaskQueue:
    """Runs use cases, each in one durable transaction, and waits for news between them."""

    def __init__(self, store: Store, wakeups: Wakeups) -> None:
        self._store = store
        self._wakeups = wakeups
        self.closed = False
        self.loops = list(store.loops)  # the background work of this process; each that runs joins here
        self.looks_first = not store.shared  # whether a look at whether there is work costs less than to ask for it

    async def start(self) -> None:
        await self._store.start(self._wakeups.publish)

    def end_waits(self) -> None:
        """Let everybody who waits have an answer now; what is under way goes on."""
        self.closed = True
        self._wakeups.close()

    async def close(self) -> None:
        self.end_waits()
        await self._store.close()

    async def write(self, use_case: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The use case's result, after its commit is durable."""
        return await self._unraced(lambda: self._store.write(lambda tx: use_case(tx, *args, **kwargs)))

    async def turn(self, asks: Asks, use_case: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As write, for what agents ask all the time: in one transaction with others that come at the same time."""
        return await self._unraced(lambda: self._store.turn(asks, lambda tx: use_case(tx, *args, **kwargs)))

    async def _unraced(self, once: Callable[[], Awaitable[T]]) -> T:
        """One that lost a race for a task is run again on what it finds then: a refusal would be the truth about a
        moment that is over, and an agent that is refused forgets its report."""
        for _ in range(_RACES_MOST):
            try:
                return await once()
            except errors.Conflict as exc:
                if exc.code != "raced":
                    raise
        return await once()

    async def read(self, use_case: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._store.read(lambda tx: use_case(tx, *args, **kwargs))

    async def glance(self, use_case: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As read, for a few rows by key."""
        return await self._store.glance(lambda tx: use_case(tx, *args, **kwargs))

    async def glance_at(
        self, asks: Asks, use_case: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As glance; on a server together with the turns of others, so that it costs no transaction of its own."""
        return await self._store.glance(lambda tx: use_case(tx, *args, **kwargs), asks)

    async def wait_until(
        self,
        done: Callable[[T], bool],
        keys: list[str],
        seconds: float,
        use_case: Callable[Concatenate[Tx, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Read until ``done`` or the time is over; the last thing read.

        The keys are watched before the first read, so that no change falls between reading and waiting.
        """
        with self._wakeups.watch(keys) as news:
            deadline = news.now() + seconds
            while True:
                seen = await self.read(use_case, *args, **kwargs)
                left = deadline - news.now()
                if done(seen) or left <= 0 or news.closed:
                    return seen
                await news.wait(left)
