# SPDX-License-Identifier: Apache-2.0
"""Direct: the prepared statements on the database's driver itself, with or without a bound on how much they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import sqlalchemy as sa

from heat_workflow.store.prepared import Prepared


class TooLongError(Exception):
    """The transaction does more than fits between two other things; it is to be run again where nobody waits."""


def driver_of(connection: sa.Connection) -> Any:
    """The connection of sqlite3 or psycopg below that of SQLAlchemy."""
    return connection.connection.driver_connection


class Direct(Prepared):
    """Runs prepared statements on the driver: SQLAlchemy's result objects would cost more than SQLite does."""

    def __init__(self, dialect: sa.Dialect) -> None:
        super().__init__(dialect)
        assert dialect.loaded_dbapi is not None
        self._failure: type[Exception] = dialect.loaded_dbapi.Error

    def __call__(self, connection: sa.Connection, statement: Any, params: Mapping[str, Any]) -> Any:
        text, values = self.prepared(statement, params)
        try:
            return driver_of(connection).execute(text, values)
        except self._failure as exc:
            raise wrapped(exc, self._failure, text) from exc

    def many(self, connection: sa.Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        text = self.prepared(statement, rows[0])[0]
        try:
            driver_of(connection).cursor().executemany(text, (self.prepared(statement, row)[1] for row in rows))
        except self._failure as exc:
            raise wrapped(exc, self._failure, text) from exc


class Short(Direct):
    """Runs prepared statements until they and the rows they touch come to ``most``, then raises TooLongError.

    ``begin`` starts counting anew.
    """

    def __init__(self, dialect: sa.Dialect, most: int) -> None:
        super().__init__(dialect)
        self._most = self._left = most

    def begin(self) -> None:
        self._left = self._most

    def expect(self, rows: int) -> None:
        if rows > self._left:
            raise TooLongError

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise TooLongError

    def __call__(self, connection: sa.Connection, statement: Any, params: Mapping[str, Any]) -> Any:
        self._take(1)
        result = super().__call__(connection, statement, params)
        if not statement.is_select:
            return result
        rows = _Rows(result.fetchmany(self._left + 1))
        self._take(len(rows.rows))
        return rows

    def many(self, connection: sa.Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        self._take(len(rows))
        super().many(connection, statement, rows)


class _Rows:
    """What a statement gave, fetched."""

    __slots__ = ("rows",)

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def fetchone(self) -> Any:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[Any]:
        return self.rows


class PreparedOnly:
    """A connection for transactions that shall be short: statements made for the moment are those of long ones."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection.connection

    def execute(self, *_: Any) -> NoReturn:
        raise TooLongError


def wrapped(exc: Exception, failure: type[Exception], text: str = "") -> BaseException:
    """The driver's error as SQLAlchemy's, without the parameters: they may be secrets. ``failure`` is the class of all
    its errors."""
    return sa.exc.DBAPIError.instance(text, (), exc, failure, hide_parameters=True)
