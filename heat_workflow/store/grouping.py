# SPDX-License-Identifier: Apache-2.0
"""Grouping: one thread of a replica that runs what has queued up in one transaction of the database server.

Those who report on one workflow follow each other under its lock. With a connection for each, the lock was held until
each COMMIT was on the disk, and went from one to the other in no order: of sixty-four agents some waited for seconds.
In a group they follow each other at once, each under a savepoint, and the disk is waited for once.

A group does not wait. What meets a lock of another replica for longer than its groups take, what is long, and what the
database refuses leaves the group, and runs alone on a connection of its own.
"""

from __future__ import annotations

import collections
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exception
from oslo_log import log

from heat_workflow.failpoints import failpoint
from heat_workflow.loops import Loop
from heat_workflow.store.direct import TooLongError, driver_of
from heat_workflow.store.transaction import SqlTx
from heat_workflow.store.write import Write, out_of_reach

LOG = log.getLogger(__name__)
_MOST = 64  # transactions in one commit
_TURN = 0.025  # seconds that a group runs, from its first lock on, before it is committed
_FIRST_WAIT = 50  # milliseconds for a row, while the group holds none: another replica's group takes half as long
_WAIT = 1  # and once it does: who waits and is waited for may be waiting for each other
DATABASE_ERRORS = (db_exception.DBError, sa.exc.SQLAlchemyError)


class Grouper:
    """The thread. Nobody gets an answer before the group's commit."""

    def __init__(
        self,
        engine: sa.Engine,
        lock_wait: str,
        begun: Callable[[sa.Connection], SqlTx],
        alone: Callable[[Write], None],
        settled: Callable[[list[Write]], None],
        health: Loop,
    ) -> None:
        """``lock_wait`` is the statement that bounds the waiting for a lock in this transaction, its place for the
        milliseconds in braces; ``begun`` makes the transaction that raises TooLongError in the middle of a long use
        case. ``alone`` takes a use case that has to run by itself, ``settled`` those that are done; ``health`` learns
        how the thread is."""
        self._engine = engine
        self._lock_wait = lock_wait
        self._begun = begun
        self._alone = alone
        self._settled = settled
        self._health = health
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._next: collections.deque[Write] = collections.deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store-group", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """From any thread; returns at once."""
        self._queue.put(write)

    def close(self) -> None:
        """Finish what has queued up."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._take():
            with self._health.round():
                self._run_group()

    def _run_group(self) -> None:
        group: list[Write] = []
        try:
            self._group(group)
        except Exception as exc:
            LOG.info("A group of %d failed; each runs alone", len(group))
            for write in [*group, *self._next]:
                self._alone(write)
            self._next.clear()
            if not isinstance(exc, DATABASE_ERRORS):
                raise
        else:
            self._settled(group)

    def _take(self) -> bool:
        """Have the next ones, if need be after waiting for the first; False when there are none any more."""
        while not self._closing and not (self._next and self._queue.empty()):
            write = self._queue.get()
            if write is None:
                self._closing = True
            else:
                self._next.append(write)
        return bool(self._next)

    def _group(self, group: list[Write]) -> None:
        """Run the next ones, which come into ``group``, and commit them."""
        with self._engine.connect() as connection:
            transaction = connection.begin()
            driver = driver_of(connection)
            driver.execute(self._lock_wait.format(_FIRST_WAIT))
            until = float("inf")
            while self._next and len(group) < _MOST and time.monotonic() < until:
                alone = not group
                if not self._run_one(connection, driver, group):
                    break
                if alone and group:
                    driver.execute(self._lock_wait.format(_WAIT))
                    until = time.monotonic() + _TURN
            failpoint("commit.before")
            try:
                transaction.commit()
            except DATABASE_ERRORS as exc:  # perhaps it is on the disk: whoever asks again will find out
                LOG.error("The store failed in a commit: %s", type(exc).__name__, exc_info=True)
                for write in group:
                    write.error = out_of_reach()
            else:
                failpoint("commit.after")

    def _run_one(self, connection: sa.Connection, driver: Any, group: list[Write]) -> bool:
        """The next one, under a savepoint of its own; whether another may follow."""
        others = len(group)
        write = self._next.popleft()
        group.append(write)
        driver.execute("SAVEPOINT one")
        try:
            write.run(self._begun(connection))
        except TooLongError:
            self._alone(group.pop())
        except DATABASE_ERRORS:
            if others:  # it may wait longer as the first of the next group
                self._next.appendleft(group.pop())
                driver.execute("ROLLBACK TO one")
                return False
            self._alone(group.pop())
        except Exception as exc:  # the use case refused: its own changes go, the group's stay
            write.error = exc
        else:
            driver.execute("RELEASE one")
            return True
        driver.execute("ROLLBACK TO one")
        return True
