# SPDX-License-Identifier: Apache-2.0
"""SQLite: one writer thread that commits in groups, readers on snapshots beside it.

SQLite lets one connection write at a time, and a durable commit costs a disk flush. So one thread takes whatever
transactions have queued up, runs each under a savepoint of its own, and flushes once for all of them.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_log import log

from heat_workflow import errors
from heat_workflow.failpoints import failpoint
from heat_workflow.store import Tx
from heat_workflow.store.claims import Sqlite
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.prepared import Prepared
from heat_workflow.store.transaction import SqlTx

LOG = log.getLogger(__name__)
T = TypeVar("T")
_GROUP_MOST = 128  # transactions in one commit
_READERS = 4
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "cache_size=-65536")


def engine_for(url: str) -> sa.Engine:
    """An engine that leaves BEGIN to us (the driver's own rules would start transactions late)."""
    engine = sa.create_engine(url, hide_parameters=True, pool_size=_READERS + 1)

    @sa.event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Errors of the database become Unavailable: the same request may be repeated."""
    try:
        yield
    except sa.exc.DBAPIError as exc:
        LOG.error("The store failed: %s", type(exc.orig).__name__, exc_info=True)
        raise errors.Unavailable("the store is out of reach; repeat the request", retry_after=1) from exc


def closing() -> errors.Unavailable:
    return errors.Unavailable("the store is closing; repeat the request", retry_after=1)


class _Direct(Prepared):
    """Runs prepared statements on the driver itself: SQLAlchemy's result objects would cost more than SQLite does."""

    def __call__(self, connection: sa.Connection, statement: Any, params: Mapping[str, Any]) -> Any:
        text, values = self.prepared(statement, params)
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        try:
            return driver.execute(text, values)
        except sqlite3.Error as exc:
            raise sa.exc.DBAPIError.instance(text, (), exc, sqlite3.Error, hide_parameters=True) from exc


class _Write:
    """One queued transaction and where its result goes."""

    def __init__(self, fn: Callable[[Tx], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.fn = fn
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        self.wakes: set[str] = set()
        self.finished: list[str] = []

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SqliteStore:
    """The Store on one SQLite file (WAL, synchronous=FULL)."""

    def __init__(self, url: str, keys: KeyRing, clock: Callable[[], float] = time.time) -> None:
        path = sa.make_url(url).database
        if not path or path == ":memory:":
            raise errors.Invalid(
                f"[database] connection = {url}: an SQLite store needs a file, so that it can be durable"
            )
        Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._engine = engine_for(url)
        self._clock = clock
        self._dialect = Sqlite()
        self._keys = keys
        self._run = _Direct(self._engine.dialect)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._readers = concurrent.futures.ThreadPoolExecutor(_READERS, "store-read")
        self._writer = threading.Thread(target=self._write_forever, name="store-write", daemon=True)
        self._wake: Callable[[Iterable[str]], None] = lambda keys: None
        self._glancing: sa.Connection | None = None
        self._closed = False
        self.finished: collections.Counter[str] = collections.Counter()

    async def start(self, wake: Callable[[Iterable[str]], None]) -> None:
        self._wake = wake
        self._connection = await asyncio.to_thread(self._connect)
        self._glancing = self._engine.connect()
        self._writer.start()

    def _connect(self) -> sa.Connection:
        with translated():
            return self._engine.connect().execution_options(writes=True)

    async def close(self) -> None:
        self._closed = True
        self._queue.put(None)
        if self._writer.ident is not None:
            await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        if self._glancing is not None:
            self._glancing.close()
        self._engine.dispose()

    async def read(self, fn: Callable[[Tx], T]) -> T:
        if self._closed:
            raise closing()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, fn)

    def _read(self, fn: Callable[[Tx], T]) -> T:
        with translated(), self._engine.connect() as connection, connection.begin():
            return fn(SqlTx(connection, self._run, self._dialect, self._keys, self._clock()))

    async def glance(self, fn: Callable[[Tx], T]) -> T:
        """In the event loop's own thread: a few rows by key take less time than handing them to another thread."""
        if self._closed or self._glancing is None:
            raise closing()
        driver = self._glancing.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        with translated():
            driver.execute("BEGIN")
            try:
                return fn(SqlTx(self._glancing, self._run, self._dialect, self._keys, self._clock()))
            finally:
                driver.execute("ROLLBACK")

    async def write(self, fn: Callable[[Tx], T]) -> T:
        if self._closed:
            raise closing()
        write = _Write(fn, asyncio.get_running_loop())
        self._queue.put(write)
        result: T = await write.future
        return result

    def _write_forever(self) -> None:
        with self._connection as connection:
            while (first := self._queue.get()) is not None:
                group = [first]
                stop = False
                while len(group) < _GROUP_MOST and not self._queue.empty():
                    following = self._queue.get()
                    if following is None:
                        stop = True
                        break
                    group.append(following)
                self._commit(connection, group)
                if stop:
                    return

    def _commit(self, connection: sa.Connection, group: list[_Write]) -> None:
        """Run the group in one transaction; nobody gets an answer before it is on the disk."""
        try:
            with translated(), connection.begin():
                for write in group:
                    self._run_one(connection, write)
                failpoint("commit.before")
            failpoint("commit.after")
        except errors.Unavailable as exc:
            for write in group:
                write.error = exc
        except Exception:  # the writer lives on: without it every later request would wait for ever
            LOG.exception("A group of %d transactions failed", len(group))
            for write in group:
                write.error = errors.Unavailable("the store failed; repeat the request", retry_after=1)
        keys: set[str] = set()
        for write in group:
            if write.error is None:
                keys |= write.wakes
                self.finished.update(write.finished)
        for loop in {write.loop for write in group}:
            settled = [write for write in group if write.loop is loop]
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(self._settle, settled, keys)

    def _settle(self, group: list[_Write], keys: set[str]) -> None:
        for write in group:
            write.settle()
        if keys:
            self._wake(keys)

    def _run_one(self, connection: sa.Connection, write: _Write) -> None:
        """One use case of the group under a savepoint of its own."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        tx = SqlTx(connection, self._run, self._dialect, self._keys, self._clock())
        driver.execute("SAVEPOINT one")
        try:
            write.result = write.fn(tx)
            tx.flush_events()
        except sa.exc.IntegrityError as exc:  # a clash of this transaction alone
            driver.execute("ROLLBACK TO one")
            LOG.error("A transaction clashed: %s", exc.orig)
            write.error = errors.Unavailable("the request met another one; repeat it", retry_after=1)
        except sa.exc.DBAPIError:
            raise
        except Exception as exc:  # the use case refused: its own changes go, the group's stay
            driver.execute("ROLLBACK TO one")
            write.error = exc
        driver.execute("RELEASE one")
        write.wakes, write.finished = tx.wakes, tx.finished
