# SPDX-License-Identifier: Apache-2.0
"""Writer: the one connection that writes to an SQLite file; it takes what has queued up and commits once for all.

Most transactions are a claim or a report, a few rows by key. They run in the event loop's own thread, one after the
other, and only what waits for the disk, the COMMIT, goes to another thread while the loop reads the next requests. To
run them beside the loop took longer: each of their statements gives Python's lock away and has to wait for it again.
A transaction that turns out to be long is taken back and run in the other thread.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import sqlalchemy as sa
from oslo_log import log

from heat_workflow import errors
from heat_workflow.failpoints import failpoint
from heat_workflow.loops import Loop
from heat_workflow.store import Asks, Tx
from heat_workflow.store.direct import Direct, PreparedOnly, Short, TooLongError, driver_of, wrapped
from heat_workflow.store.group.backlog import Backlog
from heat_workflow.store.group.running import Group, Turn, next_group
from heat_workflow.store.group.sets import SqliteSets
from heat_workflow.store.prepared import Prepared
from heat_workflow.store.transaction import SqlTx
from heat_workflow.store.write import Write, out_of_reach, settle, told

LOG = log.getLogger(__name__)
_GROUP_MOST = 128  # transactions in one commit
_TURN = 0.010  # seconds that a group runs in the event loop before it is committed
_SHORT = 300  # statements and rows of a transaction that may run in the event loop, some ten milliseconds
_PATIENCE = 5000  # milliseconds to wait for another process that writes to the file


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Errors of the database become Unavailable: the same request may be repeated."""
    try:
        yield
    except sa.exc.DBAPIError as exc:
        LOG.error("The store failed: %s", type(exc.orig).__name__, exc_info=True)
        raise out_of_reach() from exc


class Writer:
    """Runs transactions in groups, in the loop it was made in. Nobody gets an answer before it is on the disk."""

    def __init__(
        self,
        connection: sa.Connection,
        transaction: Callable[[sa.Connection, Prepared], SqlTx],
        committed: Callable[[Mapping[str, int], list[str]], None],
        keyed_digest: Callable[[str], str],
        clock: Callable[[], float],
        health: Loop,
    ) -> None:
        """``committed`` is told the keys to wake for and the states that tasks came to. ``health`` learns how it is."""
        self._connection = connection
        self._driver: sqlite3.Connection = driver_of(connection)
        self._transaction = transaction
        self._committed = committed
        self._health = health
        self._short = Short(connection.engine.dialect, _SHORT)
        self._direct = Direct(connection.engine.dialect)
        self._prepared_only = cast(sa.Connection, PreparedOnly(connection))
        self._loop = asyncio.get_running_loop()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "store-write")
        self._waiting: collections.deque[Write] = collections.deque()
        self._turns: collections.deque[Turn] = collections.deque()
        self._backlog = Backlog()
        sets = SqliteSets(self._driver.execute, self._driver.executemany)
        self._group = Group(sets, keyed_digest, locks=False)
        self._clock = clock
        self._idle = asyncio.Event()
        self._idle.set()
        self._driver.execute("PRAGMA busy_timeout=0")  # the loop waits for nobody

    async def write(self, fn: Callable[[Tx], Any]) -> Any:
        """What the function gives, once its transaction is on the disk."""
        write = Write(fn, self._loop.create_future())
        self._waiting.append(write)
        self._begin_soon()
        return await write.future

    async def turn(self, asks: Asks, fn: Callable[[Tx], Any]) -> Any:
        """As write, with others that say what they ask."""
        turn = Turn(asks, fn, self._loop.create_future())
        self._backlog.enter(asks, turn.future)
        self._turns.append(turn)
        self._begin_soon()
        return await turn.future

    def _begin_soon(self) -> None:
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._next)

    async def close(self) -> None:
        """Finish what has queued up."""
        await self._idle.wait()
        self._thread.shutdown()
        self._connection.close()

    def _next(self) -> None:
        """Begin the next group; when it is settled, this is called again."""
        while self._waiting or self._turns:
            self._health.begin()
            if not self._turns and self._waiting[0].long:
                self._thread.submit(self._run_beside, [self._waiting.popleft()])
                return
            if self._run_here():
                return
        self._idle.set()

    def _run_here(self) -> bool:
        """Run a group now; whether its COMMIT, or the group itself, is on its way in the other thread."""
        group: list[Write] = []
        try:
            self._begin()
            self._run_turns(next_group(self._turns), group)
            self._run_short(group)
        except (sqlite3.Error, sa.exc.DBAPIError) as exc:
            self._roll_back()
            if isinstance(exc, sqlite3.OperationalError) and not group:  # another process writes: wait for it there
                self._thread.submit(self._run_beside, self._taken())
                return True
            _fail(group, exc)
            self._settle(group)
            return True
        except Exception as exc:  # the writer lives on: without it every later request would wait for ever
            self._roll_back()
            group = group or self._taken()
            self._give_up(group, exc)
            self._settle(group)
            return True
        if not group:
            self._roll_back()
            return False
        self._thread.submit(self._commit, group)
        return True

    def _taken(self) -> list[Write]:
        self._waiting.extendleft(reversed(next_group(self._turns)))
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP_MOST))]

    def _begin(self) -> None:
        self._roll_back()  # if it failed the last time
        self._driver.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # said again at the next beginning
            if self._driver.in_transaction:
                self._driver.execute("ROLLBACK")

    def _run_turns(self, turns: list[Turn], group: list[Write]) -> None:
        """Those that came together, by set. The ones it is not for run after them, each by itself."""
        if not turns:
            return
        alone: list[Turn] = []
        self._driver.execute("SAVEPOINT turns")
        try:
            look = self._group.look(turns, alone)
            rest = [turn for turn in turns if turn not in alone]
            outcome = self._group.settle(look, rest, self._clock(), wait=False)
        except sqlite3.OperationalError:
            group += turns
            raise
        except Exception as exc:  # one of them says what cannot be written: in halves, down to that one
            self._driver.execute("ROLLBACK TO turns")
            if not isinstance(exc, (sqlite3.Error, sa.exc.SQLAlchemyError)):
                self._health.fail(exc)
            LOG.warning("A group of %d turns failed: %s", len(turns), type(exc).__name__)
            middle = len(turns) // 2
            if middle:
                self._run_turns(turns[:middle], group)
                self._run_turns(turns[middle:], group)
            else:
                self._waiting.extendleft(turns)
        else:
            group += outcome.done
            self._waiting.extendleft(reversed([*alone, *outcome.alone, *outcome.later]))
        self._driver.execute("RELEASE turns")

    def _run_short(self, group: list[Write]) -> None:
        until = time.monotonic() + _TURN
        while self._waiting and not self._waiting[0].long and len(group) < _GROUP_MOST and time.monotonic() < until:
            write = self._waiting.popleft()
            group.append(write)
            self._short.begin()
            self._run_one(self._prepared_only, self._short, write)
            if write.long:
                self._waiting.appendleft(group.pop())

    def _commit(self, group: list[Write]) -> None:
        """In the other thread."""
        try:
            failpoint("commit.before")
            self._driver.execute("COMMIT")
            failpoint("commit.after")
        except sqlite3.Error as exc:
            self._roll_back()
            _fail(group, exc)
        except Exception as exc:
            self._roll_back()
            self._give_up(group, exc)
        self._settle_soon(group)

    def _run_beside(self, group: list[Write]) -> None:
        """In the other thread: the whole of a group."""
        try:
            with translated():
                self._roll_back()
                self._driver.execute(f"PRAGMA busy_timeout={_PATIENCE}")
                try:
                    with self._connection.begin():
                        for write in group:
                            self._run_one(self._connection, self._direct, write)
                        failpoint("commit.before")
                finally:
                    self._driver.execute("PRAGMA busy_timeout=0")
            failpoint("commit.after")
        except errors.Unavailable as exc:
            for write in group:
                write.error = exc
        except Exception as exc:
            self._give_up(group, exc)
        self._settle_soon(group)

    def _settle_soon(self, group: list[Write]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, group)

    def _give_up(self, group: list[Write], exc: Exception) -> None:
        """Nobody expected that; each is told to ask again."""
        self._health.fail(exc)
        for write in group:
            write.error = errors.Unavailable("the store failed; repeat the request", retry_after=1)

    def _settle(self, group: list[Write]) -> None:
        with self._health.round():
            settle(group)
            self._committed(*told(group))
        self._loop.call_soon(self._next)  # after the answers

    def _run_one(self, connection: sa.Connection, run: Prepared, write: Write) -> None:
        """One use case of the group under a savepoint of its own."""
        tx = self._transaction(connection, run)
        self._driver.execute("SAVEPOINT one")
        try:
            write.run(tx)
        except sa.exc.IntegrityError as exc:  # a clash of this transaction alone
            self._driver.execute("ROLLBACK TO one")
            LOG.error("A transaction clashed: %s", exc.orig)
            write.error = errors.Unavailable("the request met another one; repeat it", retry_after=1)
        except sa.exc.DBAPIError:
            raise
        except TooLongError:
            self._driver.execute("ROLLBACK TO one")
            write.long = True
        except Exception as exc:  # the use case refused: its own changes go, the group's stay
            self._driver.execute("ROLLBACK TO one")
            write.error = exc
        self._driver.execute("RELEASE one")


def _fail(group: list[Write], exc: BaseException) -> None:
    """Nothing of the group was written: each may be repeated."""
    try:
        with translated():
            raise wrapped(exc, sqlite3.Error) if isinstance(exc, sqlite3.Error) else exc
    except errors.Unavailable as refusal:
        for write in group:
            write.error = refusal
