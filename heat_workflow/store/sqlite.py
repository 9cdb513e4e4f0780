# SPDX-License-Identifier: Apache-2.0
"""SQLite: one writer that commits in groups, readers on snapshots beside it."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from heat_workflow import errors
from heat_workflow.loops import Loop
from heat_workflow.store import Asks, Tx
from heat_workflow.store.claims import Sqlite
from heat_workflow.store.direct import Direct, driver_of
from heat_workflow.store.group.running import SIZE_MOST
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.prepared import Prepared
from heat_workflow.store.transaction import SqlTx
from heat_workflow.store.writer import Writer, translated

T = TypeVar("T")
_READERS = 4
_PATIENCE = 5.0  # seconds to wait for another that writes to the file
_PRAGMAS = ("synchronous=FULL", "cache_size=-65536")


def keep_private(url: str) -> None:
    """Make the database's file if there is none, and let only its owner read it: it holds what guests said, in clear.

    SQLite gives the files beside it (``-wal``, ``-shm``) the same mode.
    """
    name = sa.make_url(url).database
    if not name or name == ":memory:" or name.startswith("file:"):
        return
    path = Path(name)
    with contextlib.suppress(OSError):  # a folder that is not there, a file of another owner: what opens it tells
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for found in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if found.exists() and found.stat().st_mode & 0o077:
                found.chmod(0o600)


def engine_for(url: str, patience: float = _PATIENCE) -> sa.Engine:
    """An engine that leaves BEGIN to us (the driver's own rules would start transactions late).

    Its connections wait up to ``patience`` seconds for another that writes to the file.
    """
    # The writer's connection is used in two threads, never at once.
    engine = sa.create_engine(
        url, hide_parameters=True, pool_size=_READERS + 1, connect_args={"check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={patience * 1000:.0f}")
        _keep_a_log(cursor, patience)
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _keep_a_log(cursor: sqlite3.Cursor, patience: float) -> None:
    """Have the file use a write-ahead log. SQLite does not wait by itself while another writes to one without."""
    until = time.monotonic() + patience
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def closing() -> errors.Unavailable:
    return errors.Unavailable("the store is closing; repeat the request", retry_after=1)


class SqliteStore:
    """The Store on one SQLite file (WAL, synchronous=FULL)."""

    shared = False

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
        self._run = Direct(self._engine.dialect)
        self._readers = concurrent.futures.ThreadPoolExecutor(_READERS, "store-read")
        self._writer: Writer | None = None
        self._wake: Callable[[Mapping[str, int]], None] = lambda keys: None
        self._glancing: sa.Connection | None = None
        self._closed = False
        self.listening: bool | None = None
        self._writing = Loop("writer", steady=False, vital=True)
        self.loops: Sequence[Loop] = (self._writing,)
        self.finished: collections.Counter[str] = collections.Counter()

    async def start(self, wake: Callable[[Mapping[str, int]], None]) -> None:
        self._wake = wake
        connection = await asyncio.to_thread(self._connect)
        self._writer = Writer(connection, self._tx, self._committed, self._keys.digest, self._clock, self._writing)
        self._glancing = self._engine.connect()

    def _connect(self) -> sa.Connection:
        with translated():
            return self._engine.connect().execution_options(writes=True)

    async def close(self) -> None:
        self._closed = True
        if self._writer is not None:
            await self._writer.close()
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
            return fn(self._tx(connection, self._run))

    async def glance(self, fn: Callable[[Tx], T], asks: Asks | None = None) -> T:
        """In the event loop's own thread: a few rows by key take less time than handing them to another thread."""
        if self._closed or self._glancing is None:
            raise closing()
        driver = driver_of(self._glancing)
        with translated():
            driver.execute("BEGIN")
            try:
                return fn(self._tx(self._glancing, self._run))
            finally:
                driver.execute("ROLLBACK")

    async def write(self, fn: Callable[[Tx], T]) -> T:
        if self._closed or self._writer is None:
            raise closing()
        result: T = await self._writer.write(fn)
        return result

    async def turn(self, asks: Asks, fn: Callable[[Tx], T]) -> T:
        if self._closed or self._writer is None or asks.size > SIZE_MOST:
            return await self.write(fn)
        result: T = await self._writer.turn(asks, fn)
        return result

    def _committed(self, keys: Mapping[str, int], finished: list[str]) -> None:
        self.finished.update(finished)
        if keys:
            self._wake(keys)

    def _tx(self, connection: sa.Connection, run: Prepared) -> SqlTx:
        return SqlTx(connection, run, self._dialect, self._keys, self._clock())
