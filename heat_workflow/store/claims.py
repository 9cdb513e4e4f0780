# SPDX-License-Identifier: Apache-2.0
"""Claims: where the databases differ (row locks, insert-if-missing, snapshots, patience, the clock)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from heat_workflow.store.group.sets import MariaDbSets, PostgreSqlSets, Sets

_IDLE_MOST = 5  # seconds that a transaction may pause: a replica stopped in the middle of one loses its locks (F9)
_LOCK_WAIT = 8  # seconds to wait for a row, longer than a stopped replica can hold it
_CONNECT_MOST = 5  # seconds
_ANSWER_MOST = 30  # seconds for the answer to one statement


Run = Callable[..., Any]  # runs a fixed statement with parameters by name


# Each statement is made once: what runs them keeps their text by their identity.
@functools.cache
def _insert(table: sa.Table, names: tuple[str, ...]) -> sa.Insert:
    return sa.insert(table).values({name: sa.bindparam(name) for name in names})


@functools.cache
def _insert_sqlite(table: sa.Table, names: tuple[str, ...]) -> sa.Insert:
    return sqlite.insert(table).values({name: sa.bindparam(name) for name in names}).on_conflict_do_nothing()


@functools.cache
def _insert_postgresql(table: sa.Table, names: tuple[str, ...]) -> sa.Insert:
    return postgresql.insert(table).values({name: sa.bindparam(name) for name in names}).on_conflict_do_nothing()


@functools.cache
def _find(table: sa.Table) -> sa.Select[Any]:
    same = (column == sa.bindparam(column.name) for column in table.primary_key)
    return sa.select(sa.literal_column("1")).select_from(table).where(*same)


class Dialect(Protocol):
    """One database's way of doing what SQL leaves open."""

    locks_rows: bool  # False where there is one writer, who needs no row locks

    def insert_missing(self, run: Run, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert the row unless its primary key is there already; whether it was inserted.

        May raise a duplicate entry while another transaction inserts the same row: run the transaction again.
        """


class ServerDialect(Dialect, Protocol):
    """What a database server needs besides."""

    clock: str  # a query for the database's time, seconds since the epoch
    connect: Mapping[str, Any]  # what its driver is told
    sets: Callable[[Callable[..., Any]], Sets]  # its way with sets, on what runs a text with parameters

    def begin_read(self, connection: sa.Connection) -> None:
        """Let the transaction that begins see one moment from its first look to its last."""


class Sqlite:
    locks_rows = False

    def insert_missing(self, run: Run, table: sa.Table, row: Mapping[str, Any]) -> bool:
        return bool(run(_insert_sqlite(table, tuple(row)), **row).rowcount)


class PostgreSql:
    locks_rows = True
    clock = "SELECT extract(epoch FROM clock_timestamp())"
    sets: Callable[[Callable[..., Any]], Sets] = PostgreSqlSets
    connect: Mapping[str, Any] = {
        "connect_timeout": _CONNECT_MOST,
        "options": f"-c idle_in_transaction_session_timeout={_IDLE_MOST}s -c lock_timeout={_LOCK_WAIT}s",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": _ANSWER_MOST * 1000,
    }

    def insert_missing(self, run: Run, table: sa.Table, row: Mapping[str, Any]) -> bool:
        return bool(run(_insert_postgresql(table, tuple(row)), **row).rowcount)

    def begin_read(self, connection: sa.Connection) -> None:
        connection.execution_options(isolation_level="REPEATABLE READ")


class MariaDb:
    locks_rows = True
    # Not unix_timestamp(now()): on a server that keeps summer time it is an hour off for an hour every autumn.
    clock = "SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1e6"
    sets: Callable[[Callable[..., Any]], Sets] = MariaDbSets
    connect: Mapping[str, Any] = {
        "connect_timeout": _CONNECT_MOST,
        "init_command": "SET SESSION sql_mode = 'TRADITIONAL', "
        f"innodb_lock_wait_timeout = {_LOCK_WAIT}, idle_transaction_timeout = {_IDLE_MOST}",
        "read_timeout": _ANSWER_MOST,
        "write_timeout": _ANSWER_MOST,
    }

    def insert_missing(self, run: Run, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """By looking first. INSERT IGNORE would also store a value cut short instead of refusing it."""
        key = {column.name: row[column.name] for column in table.primary_key}
        if run(_find(table), **key).fetchone() is not None:
            return False
        return bool(run(_insert(table, tuple(row)), **row).rowcount)

    def begin_read(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def server_dialect(name: str) -> ServerDialect:
    """The dialect for SQLAlchemy's name of it: postgresql, mysql or mariadb."""
    return PostgreSql() if name == "postgresql" else MariaDb()
