# SPDX-License-Identifier: Apache-2.0
"""Lane: the one thread of a replica that takes the turns that have queued up and runs them in groups on a server.

A group waits for nobody. Turns whose workflow is locked elsewhere go to the next group, which waits a moment for its
workflows before it holds anything; those that were passed over several times run alone, in a transaction that waits.
"""

from __future__ import annotations

import collections
import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exception
from oslo_log import log

from heat_workflow.failpoints import failpoint
from heat_workflow.loops import Loop
from heat_workflow.store.clock import DatabaseClock
from heat_workflow.store.group.running import Group, Look, Outcome, Turn, next_group
from heat_workflow.store.group.sets import ChangedError
from heat_workflow.store.write import out_of_reach

LOG = log.getLogger(__name__)
DATABASE_ERRORS = (db_exception.DBError, sa.exc.SQLAlchemyError)
_MET = (ChangedError, db_exception.DBDeadlock, db_exception.DBDuplicateEntry)  # another transaction was first
_TRIES = 3  # of one group that meets other transactions; then it is cut in two
_PASSED_OVER_MOST = 3
_KEEP_WAITING = 16  # groups that wait for their workflows at once, after one has done so with success
_LOCK_WAITS = frozenset({"55P03", 1205, 1969})  # what the servers call a lock that was not to be had in time


class Lane:
    """The thread. Nobody gets an answer before the group's commit."""

    def __init__(
        self,
        engine: sa.Engine,
        clock: DatabaseClock,
        group_on: Callable[[Callable[..., Any]], Group],
        alone: Callable[[Turn], None],
        settled: Callable[[list[Turn]], None],
        health: Loop,
    ) -> None:
        """``group_on`` makes the group that runs its statements with what it is given. ``alone`` takes a turn that has
        to run by itself, ``settled`` those that are done; ``health`` learns how the thread is."""
        self._engine = engine
        self._clock = clock
        self._alone = alone
        self._settled = settled
        self._health = health
        self._connection: sa.Connection | None = None
        self._group = group_on(self._execute)
        self._queue: queue.SimpleQueue[Turn | None] = queue.SimpleQueue()
        self._next: collections.deque[Turn] = collections.deque()
        self._closing = False
        self._worth_waiting = 0  # groups
        self._thread = threading.Thread(target=self._run, name="store-turns", daemon=True)
        self._thread.start()

    def put(self, turn: Turn) -> None:
        """From any thread; returns at once."""
        self._queue.put(turn)

    def close(self) -> None:
        """Finish what has queued up."""
        self._queue.put(None)
        self._thread.join()
        self._drop()

    def _execute(self, text: str, params: Sequence[Any]) -> Any:
        assert self._connection is not None
        return self._connection.exec_driver_sql(text, tuple(params))

    def _connected(self) -> sa.Connection:
        """The lane's own connection, on which transactions are begun and ended in words."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                self._connection.invalidate()
                self._connection.close()
        self._connection = None

    def _run(self) -> None:
        while turns := self._take():
            with self._health.round():
                self._run_group(turns)

    def _take(self) -> list[Turn]:
        """The next ones, if need be after waiting for the first; none when there are none any more."""
        while not self._closing and not (self._next and self._queue.empty()):
            turn = self._queue.get()
            if turn is None:
                self._closing = True
            else:
                self._next.append(turn)
        return next_group(self._next)

    def _run_group(self, turns: list[Turn]) -> None:
        """Until each of the turns is settled, waits for the next group, or runs alone."""
        outcome: Outcome | None = None
        try:
            outcome = self._tried(turns)
        except db_exception.DBConnectionError as exc:
            LOG.error("The store failed: %s", type(exc).__name__, exc_info=True)
            self._fail(turns)
            return
        except Exception as exc:  # one of them says what cannot be written
            if not isinstance(exc, DATABASE_ERRORS):
                self._health.fail(exc)
            LOG.warning("A group of %d turns failed: %s", len(turns), type(exc).__name__)
        if outcome is None:
            self._apart(turns)
            return
        self._settled(outcome.done)
        for turn in outcome.alone:
            self._alone(turn)
        self._pass_over(outcome.later)

    def _apart(self, turns: list[Turn]) -> None:
        """In halves, down to the one that has to run by itself."""
        if len(turns) == 1:
            self._alone(turns[0])
            return
        middle = len(turns) // 2
        self._run_group(turns[:middle])
        self._run_group(turns[middle:])

    def _fail(self, turns: list[Turn]) -> None:
        for turn in turns:
            turn.forget()
            turn.error = out_of_reach()
        self._settled(turns)

    def _pass_over(self, turns: list[Turn]) -> None:
        for turn in reversed(turns):
            turn.passed_over += 1
            if turn.passed_over > _PASSED_OVER_MOST:
                self._alone(turn)
            else:
                self._next.appendleft(turn)

    def _tried(self, turns: list[Turn]) -> Outcome | None:
        """What became of the group, run again while it meets other transactions; None if it goes on meeting them."""
        lost = False
        tries = 0
        while tries < _TRIES:
            try:
                return self._once(turns)
            except _MET as exc:
                tries += 1
                LOG.info("A group of %d turns met another transaction (%s)", len(turns), type(exc).__name__)
                time.sleep(random.uniform(0, 0.002 * 2**tries))
            except db_exception.DBConnectionError:
                if lost:
                    raise
                lost = True
        return None

    def _once(self, turns: list[Turn]) -> Outcome:
        try:
            connection = self._connected()
            alone: list[Turn] = []
            look = self._group.look(turns, alone)
            rest = [turn for turn in turns if turn not in alone]
            passed_over = any(turn.passed_over == 1 for turn in rest)
            wait = passed_over or self._worth_waiting > 0
            try:
                outcome = self._settle(connection, look, rest, wait=wait)
                if wait:  # somebody else's groups take the same workflows: it saves looking in vain to wait at once
                    self._worth_waiting = _KEEP_WAITING if passed_over else self._worth_waiting - 1
            except DATABASE_ERRORS as exc:
                if not _waited_too_long(exc):
                    raise
                self._worth_waiting = 0
                self._roll_back()
                outcome = self._settle(connection, look, rest, wait=False)
        except BaseException as exc:
            if isinstance(exc, db_exception.DBConnectionError):
                self._drop()
            else:
                self._roll_back()
            raise
        outcome.alone += alone
        return outcome

    def _settle(self, connection: sa.Connection, look: Look, turns: list[Turn], *, wait: bool) -> Outcome:
        now = self._clock.now(connection)
        if not look.workflow_ids:  # nothing can come of it but answers
            return self._group.settle(look, turns, now, wait=False)
        connection.exec_driver_sql("BEGIN")
        outcome = self._group.settle(look, turns, now, wait=wait)
        self._commit(connection, outcome)
        return outcome

    def _commit(self, connection: sa.Connection, outcome: Outcome) -> None:
        failpoint("commit.before")
        try:
            connection.exec_driver_sql("COMMIT")
        except DATABASE_ERRORS as exc:
            if isinstance(exc, db_exception.DBDeadlock):
                raise  # refused, as Galera does: nothing was written
            LOG.error("The store failed in a commit: %s", type(exc).__name__, exc_info=True)
            self._drop()
            for turn in outcome.done:  # perhaps it is on the disk: whoever asks again will find out
                turn.error, turn.lost = out_of_reach(), True
        else:
            failpoint("commit.after")

    def _roll_back(self) -> None:
        """Where no transaction is open, the servers take it for nothing."""
        try:
            if self._connection is not None:
                self._connection.exec_driver_sql("ROLLBACK")
        except DATABASE_ERRORS:
            self._drop()


def _waited_too_long(exc: BaseException) -> bool:
    """Whether a lock was not to be had in time."""
    cause: BaseException | None = exc
    while cause is not None:
        if not _LOCK_WAITS.isdisjoint({getattr(cause, "sqlstate", None), *cause.args[:1]}):
            return True
        cause = getattr(cause, "orig", None) or cause.__cause__ or getattr(cause, "inner_exception", None)
    return False
