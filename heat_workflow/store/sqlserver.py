# SPDX-License-Identifier: Apache-2.0
"""Database servers: PostgreSQL and MariaDB under any number of API replicas, one connection per transaction."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import sqlalchemy as sa
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import exc_filters
from oslo_log import log

from heat_workflow import errors
from heat_workflow.failpoints import failpoint
from heat_workflow.store import Tx
from heat_workflow.store.claims import ServerDialect, server_dialect
from heat_workflow.store.clock import DatabaseClock
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.notices import Notices, Teller, notices_for
from heat_workflow.store.prepared import Prepared
from heat_workflow.store.transaction import SqlTx

LOG = log.getLogger(__name__)
T = TypeVar("T")
_CONNECTIONS = 16  # at most so many threads at once, too: more would only take the interpreter from each other
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
        )
        exc_filters.register_engine(self._engine)
        self._keys = keys
        self._clock = DatabaseClock(self._dialect.clock)
        self._run = Prepared(self._engine.dialect)
        self._threads = concurrent.futures.ThreadPoolExecutor(_CONNECTIONS, "store")
        self._notices: Notices = notices_for(self._engine)
        self._listener: threading.Thread | None = None
        self._teller: Teller | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: Callable[[Mapping[str, int]], None] = lambda keys: None
        self._closed = False
        self._counting = threading.Lock()
        self.finished: collections.Counter[str] = collections.Counter()

    async def start(self, wake: Callable[[Mapping[str, int]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._listener = threading.Thread(
            target=self._notices.listen, args=(self._wake_soon,), name="store-news", daemon=True
        )
        self._listener.start()
        self._teller = Teller(self._engine, self._notices)

    async def close(self) -> None:
        self._closed = True
        self._notices.stop()
        if self._teller is not None:
            await asyncio.to_thread(self._teller.close)
        if self._listener is not None:
            await asyncio.to_thread(self._listener.join)
        self._threads.shutdown()
        self._engine.dispose()

    def _wake_soon(self, keys: Mapping[str, int]) -> None:
        """Called from any thread."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._wake, keys)

    async def read(self, fn: Callable[[Tx], T]) -> T:
        return await self._in_thread(fn, self._read_once)

    async def glance(self, fn: Callable[[Tx], T]) -> T:
        return await self.read(fn)

    async def write(self, fn: Callable[[Tx], T]) -> T:
        return await self._in_thread(fn, self._write_once)

    async def _in_thread(self, fn: Callable[[Tx], T], once: Callable[[Callable[[Tx], T]], T]) -> T:
        if self._closed:
            raise errors.Unavailable("the store is closing", retry_after=1)
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
            except (db_exception.DBError, sa.exc.SQLAlchemyError) as exc:
                LOG.error("The store failed: %s", type(exc).__name__, exc_info=True)
                raise errors.Unavailable("the store is out of reach; repeat the request", retry_after=1) from exc
        raise errors.Unavailable("the store is busy; repeat the request", retry_after=1)

    def _read_once(self, fn: Callable[[Tx], T]) -> T:
        with self._engine.connect() as connection:
            self._dialect.begin_read(connection)
            return fn(self._tx(connection))

    def _write_once(self, fn: Callable[[Tx], T]) -> T:
        with self._engine.begin() as connection:
            tx = self._tx(connection)
            result = fn(tx)
            tx.flush_events()
            failpoint("commit.before")
        failpoint("commit.after")
        if tx.wakes:
            self._wake_soon(tx.wakes)
            if self._teller is not None:
                self._teller.tell(tx.wakes)
        if tx.finished:
            with self._counting:
                self.finished.update(tx.finished)
        return result

    def _tx(self, connection: sa.Connection) -> SqlTx:
        return SqlTx(connection, self._run, self._dialect, self._keys, self._clock.now(connection))
