# SPDX-License-Identifier: Apache-2.0
"""Claims: where the databases differ (row locks, insert-if-missing, the clock)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


class Dialect(Protocol):
    """One database's way of doing what SQL leaves open."""

    locks_rows: bool  # False where there is one writer, who needs no row locks
    clock: str  # a query for the database's time, seconds since the epoch

    def insert_missing(self, connection: sa.Connection, table: sa.Table, new_rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert the rows whose primary key is not there yet; how many those were."""


class Sqlite:
    locks_rows = False
    clock = "SELECT (julianday('now') - 2440587.5) * 86400.0"

    def insert_missing(self, connection: sa.Connection, table: sa.Table, new_rows: Sequence[Mapping[str, Any]]) -> int:
        insert: Any = sqlite.insert(table).on_conflict_do_nothing().returning(sa.literal_column("1"))
        return sum(len(connection.execute(insert, row).fetchall()) for row in new_rows)


class PostgreSql:
    locks_rows = True
    clock = "SELECT extract(epoch FROM clock_timestamp())"

    def insert_missing(self, connection: sa.Connection, table: sa.Table, new_rows: Sequence[Mapping[str, Any]]) -> int:
        insert: Any = postgresql.insert(table).on_conflict_do_nothing().returning(sa.literal_column("1"))
        return sum(len(connection.execute(insert, row).fetchall()) for row in new_rows)


class MariaDb:
    locks_rows = True
    clock = "SELECT unix_timestamp(now(6))"

    def insert_missing(self, connection: sa.Connection, table: sa.Table, new_rows: Sequence[Mapping[str, Any]]) -> int:
        return sum(connection.execute(sa.insert(table).prefix_with("IGNORE"), row).rowcount for row in new_rows)


def dialect_of(name: str) -> Dialect:
    """The dialect for SQLAlchemy's name of it: sqlite, postgresql, mysql or mariadb."""
    dialects: dict[str, type[Dialect]] = {
        "sqlite": Sqlite,
        "postgresql": PostgreSql,
        "mysql": MariaDb,
        "mariadb": MariaDb,
    }
    return dialects[name]()
