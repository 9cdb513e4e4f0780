# SPDX-License-Identifier: Apache-2.0
"""Write: a transaction that waits for its turn in a group, and where its result goes."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Sequence
from typing import Any

from heat_workflow import errors
from heat_workflow.store import Tx
from heat_workflow.store.transaction import SqlTx


class Write:
    """One use case in the queue. What it did counts once the group is committed."""

    def __init__(self, fn: Callable[[Tx], Any], future: asyncio.Future[Any]) -> None:
        self.fn = fn
        self.future = future
        self.long = False
        self.lost = False  # in a COMMIT that was not answered: perhaps it is on the disk
        self.result: Any = None
        self.error: BaseException | None = None
        self.wakes: collections.Counter[str] = collections.Counter()
        self.finished: list[str] = []

    def run(self, tx: SqlTx) -> None:
        """Run it with its events. Raises what it raises."""
        self.result = self.fn(tx)
        tx.flush_events()
        self.wakes, self.finished = tx.wakes, tx.finished

    def settle(self) -> None:
        """In the event loop: hand over the result or the error."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)

    def forget(self) -> None:
        """What came of it was taken back: it runs anew."""
        self.result = self.error = None
        self.wakes, self.finished = collections.Counter(), []


def settle(group: Sequence[Write]) -> None:
    """In the event loop."""
    for write in group:
        write.settle()


def told(group: Sequence[Write]) -> tuple[collections.Counter[str], list[str]]:
    """Of a committed group: what there is to wake for, and the states that tasks came to."""
    keys: collections.Counter[str] = collections.Counter()
    finished: list[str] = []
    for write in group:
        if write.error is None or write.lost:
            keys.update(write.wakes)
            finished += write.finished
    return keys, finished


def out_of_reach() -> errors.Unavailable:
    """The database failed or does not answer."""
    return errors.Unavailable("the store is out of reach; repeat the request", retry_after=1)
