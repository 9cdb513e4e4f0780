# SPDX-License-Identifier: Apache-2.0
"""Database servers: PostgreSQL and MariaDB under any number of API replicas."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import sqlalchemy as sa
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import exc_filters
from oslo_log import log

from heat_workflow import errors
from heat_workflow.failpoints import failpoint
from heat_workflow.loops import Loop
from heat_workflow.store import Asks, Tx
from heat_workflow.store.claims import ServerDialect, server_dialect
from heat_workflow.store.clock import DatabaseClock
from heat_workflow.store.group.backlog import Backlog
from heat_workflow.store.group.lane import DATABASE_ERRORS, Lane
from heat_workflow.store.group.running import SIZE_MOST, Group, Turn
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.notices import Notices, Teller, notices_for
from heat_workflow.store.prepared import Prepared
from heat_workflow.store.transaction import SqlTx
from heat_workflow.store.write import Write, out_of_reach, settle, told

LOG = log.getLogger(__name__)
T = TypeVar("T")
_CONNECTIONS = 16  # at most so many threads at once, too: more would only take the interpreter from each other
_WAITING = 3  # threads for what could not go in a group: it may wait for a lock, which shall hold up nobody else
_TRIES = 12  # of one transaction against deadlocks and lock waits, which are the database's way of taking turns
_TRY_MOST = 15.0  # seconds after which no further try begins


class ServerStore:
    """The Store on PostgreSQL or MariaDB."""

    shared = True

    def __init__(self, url: str, keys: KeyRing) -> None:
        self._dialect: ServerDialect = server_dialect(sa.make_url(url).get_backend_name())
        self._engine = sa.create_engine(
            url,
            connect_args=dict(self._dialect.connect),
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            max_overflow=4,
            pool_pre_ping=True,
            pool_recycle=600,
            pool_size=_CONNECTIONS,
            pool_timeout=10,
            pool_use_lifo=True,  # the one that has the statements prepared
        )
        exc_filters.register_engine(self._engine)
        self._keys = keys
        self._clock = DatabaseClock(self._dialect.clock)
        self._run = Prepared(self._engine.dialect)
        self._lane: Lane | None = None
        self._backlog = Backlog()
        self._waiting_threads = concurrent.futures.ThreadPoolExecutor(_WAITING, "store-alone")
        self._threads = concurrent.futures.ThreadPoolExecutor(_CONNECTIONS, "store")
        self._notices: Notices = notices_for(self._engine)
        self._listener: threading.Thread | None = None
        self._teller: Teller | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: Callable[[Mapping[str, int]], None] = lambda keys: None
        self._closed = False
        self._turning = Loop("writer", steady=False, vital=True)
        self._telling = Loop("news-out", steady=False, expected=DATABASE_ERRORS)
        self._counting = threading.Lock()
        self.loops: Sequence[Loop] = [self._turning, self._notices.health, self._telling]
        self.finished: collections.Counter[str] = collections.Counter()

    @property
    def listening(self) -> bool | None:
        return self._notices.connected

    async def start(self, wake: Callable[[Mapping[str, int]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._listener = threading.Thread(
            target=self._notices.listen, args=(self._wake_soon,), name="store-news", daemon=True
        )
        self._listener.start()
        self._teller = Teller(self._engine, self._notices, self._telling)
        self._lane = Lane(self._engine, self._clock, self._group_on, self._run_alone, self._settled, self._turning)

    def _group_on(self, execute: Callable[..., object]) -> Group:
        return Group(self._dialect.sets(execute), self._keys.digest, locks=True)

    async def close(self) -> None:
        self._closed = True
        self._notices.stop()
        if self._lane is not None:
            await asyncio.to_thread(self._lane.close)
        await asyncio.to_thread(self._waiting_threads.shutdown)
        await asyncio.to_thread(self._threads.shutdown)
        if self._teller is not None:
            await asyncio.to_thread(self._teller.close)
        if self._listener is not None:
            await asyncio.to_thread(self._listener.join)
        self._engine.dispose()

    def _wake_soon(self, keys: Mapping[str, int]) -> None:
        self._soon(lambda: self._wake(keys))

    def _soon(self, call: Callable[[], object]) -> None:
        """Have it called in the event loop. From any thread."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(call)

    async def read(self, fn: Callable[[Tx], T]) -> T:
        return await self._in_thread(fn, self._read_once)

    async def glance(self, fn: Callable[[Tx], T], asks: Asks | None = None) -> T:
        return await (self.read(fn) if asks is None else self.turn(asks, fn))

    async def write(self, fn: Callable[[Tx], T]) -> T:
        return await self._in_thread(fn, self._write_once)

    async def turn(self, asks: Asks, fn: Callable[[Tx], T]) -> T:
        self._refuse_closed()
        if self._lane is None or asks.size > SIZE_MOST:
            return await self.write(fn)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._backlog.enter(asks, future)
        self._lane.put(Turn(asks, fn, future))
        return await future

    def _refuse_closed(self) -> None:
        if self._closed:
            raise errors.Unavailable("the store is closing", retry_after=1)

    async def _in_thread(self, fn: Callable[[Tx], T], once: Callable[[Callable[[Tx], T]], T]) -> T:
        self._refuse_closed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._tried, fn, once)

    def _tried(self, fn: Callable[[Tx], T], once: Callable[[Callable[[Tx], T]], T]) -> T:
        """Run the transaction, again after a deadlock; Unavailable when the database cannot be had."""
        give_up = time.monotonic() + _TRY_MOST
        for attempt in range(_TRIES):
            try:
                return once(fn)
            except (db_exception.DBDeadlock, db_exception.DBDuplicateEntry) as exc:
                LOG.info("A transaction met another one (%s), attempt %d", type(exc).__name__, attempt + 1)
                if time.monotonic() > give_up:
                    break
                time.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 6)))
            except DATABASE_ERRORS as exc:
                LOG.error("The store failed: %s", type(exc).__name__, exc_info=True)
                raise out_of_reach() from exc
        raise errors.Unavailable("the store is busy; repeat the request", retry_after=1)

    def _read_once(self, fn: Callable[[Tx], T]) -> T:
        with self._engine.connect() as connection:
            self._dialect.begin_read(connection)
            result = fn(self._tx(connection))
            connection.commit()  # psycopg forgets the statements it has prepared at a ROLLBACK, and plans them anew
            return result

    def _write_once(self, fn: Callable[[Tx], T]) -> T:
        with self._engine.begin() as connection:
            tx = self._tx(connection)
            result = fn(tx)
            tx.flush_events()
            failpoint("commit.before")
        failpoint("commit.after")
        self._tell(tx.wakes, tx.finished)
        return result

    def _run_alone(self, write: Write) -> None:
        """In a thread and a transaction of its own, what a group could not take. Called in the lane's thread."""
        self._waiting_threads.submit(self._alone, write)

    def _alone(self, write: Write) -> None:
        write.forget()
        try:
            write.result = self._tried(write.fn, self._write_once)
        except Exception as exc:
            write.error = exc
        self._settle_soon([write])

    def _settled(self, group: Sequence[Write]) -> None:
        self._settle_soon(group)
        self._tell(*told(group))

    def _settle_soon(self, group: Sequence[Write]) -> None:
        self._soon(lambda: settle(group))

    def _tell(self, keys: Mapping[str, int], finished: list[str]) -> None:
        """What a transaction brought about. Called from any thread, after its commit."""
        if keys:
            self._wake_soon(keys)
            if self._teller is not None:
                self._teller.tell(keys)
        if finished:
            with self._counting:
                self.finished.update(finished)

    def _tx(self, connection: sa.Connection) -> SqlTx:
        return SqlTx(connection, self._run, self._dialect, self._keys, self._clock.now(connection))
