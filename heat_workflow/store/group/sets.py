# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - what is put into the texts are names of our tables and columns; values are parameters
"""Sets: rows by set, a statement for each kind of question or change however many rows it is about.

Each database has its own way to take a set: SQLite a JSON array and executemany, PostgreSQL arrays, MariaDB lists of
values. MariaDB's JSON_TABLE would cut what is longer than the type that it was told; a list of values has the type of
its longest.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from heat_workflow.store import tables as t
from heat_workflow.store.rows import columns
from heat_workflow.store.statements.parts import UNFINISHED

Row = Sequence[Any]
_HANDS_OUT = "('active', 'undoing')"
_UNFINISHED = ", ".join(f"'{state}'" for state in sorted(UNFINISHED))


class ChangedError(Exception):
    """A row was not as it had been read: somebody has changed it, and the group has to begin anew."""


class Sets(Protocol):
    """One database's way with sets; texts are SQL with the driver's own marks."""

    def q(self, name: str) -> str:
        """The name, quoted where the database needs that."""

    def among(self, names: Sequence[sa.Column[Any]], rows: Sequence[Row], alias: str) -> tuple[str, list[Any]]:
        """The condition that these columns together are one of the rows, with its parameters."""

    def select(self, text: str, params: Sequence[Any]) -> list[Any]: ...
    def ready(self, places: Sequence[tuple[str, str, int]], wanted: str) -> list[Any]:
        """Ready tasks of workflows that go on: of each (project, route) so many, the most urgent first. ``wanted`` are
        columns of ``task x``; the place's number comes before them."""

    def lock(self, ids: Sequence[str], wait: bool) -> list[Any]:
        """The workflows' rows, locked in the order of their ids: all of them after waiting a moment, or those that
        nobody holds."""

    def insert(self, table: sa.Table, names: Sequence[str], rows: Sequence[Row]) -> None: ...
    def update(self, table: sa.Table, keys: Sequence[str], names: Sequence[str], rows: Sequence[Row]) -> int:
        """Set the columns where the keys are as said; each row is the keys' values, then the new ones. How many rows
        were as said."""

    def delete(self, table: sa.Table, keys: Sequence[str], rows: Sequence[Row]) -> int: ...


def listed(sets: Sets, table: sa.Table, alias: str) -> str:
    """All columns of the table in its order."""
    return ", ".join(f"{alias}.{sets.q(name)}" for name in columns(table))


def by_set(
    sets: Sets, table: sa.Table, names: Sequence[str], rows: Sequence[Row], wanted: str | None = None, also: str = ""
) -> list[Any]:
    """The table's rows whose columns of these names are one of ``rows``; ``also`` is a further condition on x."""
    if not rows:
        return []
    where, params = sets.among([table.c[name] for name in names], rows, "x")
    text = f"SELECT {wanted or listed(sets, table, 'x')} FROM {sets.q(table.name)} x WHERE {where}{also}"
    return sets.select(text, params)


def dependants(sets: Sets, task_ids: Sequence[str]) -> list[Any]:
    """Waiting tasks by what they require: the id of that, then the task's row."""
    if not task_ids:
        return []
    where, params = sets.among([t.requirement.c.requires_id], [(one,) for one in task_ids], "r")
    text = (
        f"SELECT r.requires_id, {listed(sets, t.task, 'x')} FROM requirement r JOIN task x ON x.id = r.task_id "
        f"WHERE {where} AND x.state = 'waiting' ORDER BY x.seq"
    )
    return sets.select(text, params)


def requirements(sets: Sets, task_ids: Sequence[str]) -> list[Any]:
    """Of each of the tasks: its id, and the id and state of what it requires."""
    if not task_ids:
        return []
    where, params = sets.among([t.requirement.c.task_id], [(one,) for one in task_ids], "r")
    text = f"SELECT r.task_id, x.id, x.state FROM requirement r JOIN task x ON x.id = r.requires_id WHERE {where}"
    return sets.select(text, params)


def unfinished(sets: Sets, workflow_ids: Sequence[str], most: int, mark: str) -> list[Any]:
    """Of each workflow up to ``most`` of its unfinished tasks: workflow and task id."""
    if not workflow_ids:
        return []
    one = (
        f"SELECT * FROM (SELECT workflow_id, id FROM task WHERE workflow_id = {mark} "
        f"AND state IN ({_UNFINISHED}) LIMIT {most}) u"
    )
    return sets.select(" UNION ALL ".join([one] * len(workflow_ids)), list(workflow_ids))


def _ready_of_one(sets: Sets, mark: str, wanted: str, number: str) -> str:
    return (
        f"SELECT {number}, {wanted} FROM task x WHERE x.project_id = {mark} AND x.route = {mark} AND x.state = 'ready' "
        f"AND EXISTS (SELECT 1 FROM workflow w WHERE w.id = x.workflow_id AND w.state IN {_HANDS_OUT}) "
        f"ORDER BY x.{sets.q('rank')}, x.ready_at LIMIT {mark}"
    )


class SqliteSets:
    """On the driver itself. It has one writer, so nothing needs a lock."""

    def __init__(self, execute: Callable[..., Any], executemany: Callable[..., Any]) -> None:
        self._execute = execute
        self._executemany = executemany

    def q(self, name: str) -> str:
        return f'"{name}"'

    def among(self, names: Sequence[sa.Column[Any]], rows: Sequence[Row], alias: str) -> tuple[str, list[Any]]:
        if len(names) == 1:
            given = json.dumps([row[0] for row in rows])
            return f"{alias}.{names[0].name} IN (SELECT value FROM json_each(?))", [given]
        parts = ", ".join(f"json_extract(value, '$[{n}]')" for n in range(len(names)))
        left = ", ".join(f"{alias}.{column.name}" for column in names)
        return f"({left}) IN (SELECT {parts} FROM json_each(?))", [json.dumps([list(row) for row in rows])]

    def select(self, text: str, params: Sequence[Any]) -> list[Any]:
        found: list[Any] = self._execute(text, params).fetchall()
        return found

    def ready(self, places: Sequence[tuple[str, str, int]], wanted: str) -> list[Any]:
        text = _ready_of_one(self, "?", wanted, "?")
        return [row for n, place in enumerate(places) for row in self.select(text, (n, *place))]

    def lock(self, ids: Sequence[str], wait: bool) -> list[Any]:
        return by_set(self, t.workflow, ["id"], [(one,) for one in ids])

    def insert(self, table: sa.Table, names: Sequence[str], rows: Sequence[Row]) -> None:
        marks = ", ".join("?" * len(names))
        self._executemany(f"INSERT INTO {self.q(table.name)} ({_joined(self, names)}) VALUES ({marks})", rows)

    def update(self, table: sa.Table, keys: Sequence[str], names: Sequence[str], rows: Sequence[Row]) -> int:
        new = ", ".join(f"{self.q(name)} = ?" for name in names)
        where = " AND ".join(f"{self.q(key)} = ?" for key in keys)
        text = f"UPDATE {self.q(table.name)} SET {new} WHERE {where}"
        turned = [(*row[len(keys) :], *row[: len(keys)]) for row in rows]
        return int(self._executemany(text, turned).rowcount)

    def delete(self, table: sa.Table, keys: Sequence[str], rows: Sequence[Row]) -> int:
        where = " AND ".join(f"{self.q(key)} = ?" for key in keys)
        return int(self._executemany(f"DELETE FROM {self.q(table.name)} WHERE {where}", rows).rowcount)


def _joined(sets: Sets, names: Sequence[str]) -> str:
    return ", ".join(sets.q(name) for name in names)


class _ServerSets:
    """What the two servers have in common; ``execute`` runs a text with its parameters."""

    def __init__(self, execute: Callable[[str, Sequence[Any]], Any]) -> None:
        self._execute = execute

    def select(self, text: str, params: Sequence[Any]) -> list[Any]:
        found: list[Any] = self._execute(text, tuple(params)).fetchall()
        return found


class PostgreSqlSets(_ServerSets):
    """Sets are arrays, so that a statement has one text for any number of rows, and stays prepared."""

    def q(self, name: str) -> str:
        return f'"{name}"'

    def _arrays(self, table: sa.Table, names: Sequence[str], rows: Sequence[Row]) -> tuple[str, list[Any]]:
        marks = ", ".join(f"%s::{_postgresql_type(table, name)}[]" for name in names)
        return f"unnest({marks})", [list(column) for column in zip(*rows, strict=True)]

    def among(self, names: Sequence[sa.Column[Any]], rows: Sequence[Row], alias: str) -> tuple[str, list[Any]]:
        arrays, params = self._arrays(names[0].table, [column.name for column in names], rows)
        if len(names) == 1:
            return f"{alias}.{names[0].name} = ANY({arrays.removeprefix('unnest')})", params
        left = ", ".join(f"{alias}.{column.name}" for column in names)
        return f"({left}) IN (SELECT * FROM {arrays})", params

    def ready(self, places: Sequence[tuple[str, str, int]], wanted: str) -> list[Any]:
        text = (
            "SELECT p.n, y.* "
            "FROM unnest(%s::text[], %s::text[], %s::int[]) WITH ORDINALITY AS p(project, route, most, n) "
            f"CROSS JOIN LATERAL (SELECT {wanted} FROM task x WHERE x.project_id = p.project AND x.route = p.route "
            "AND x.state = 'ready' "
            f"AND EXISTS (SELECT 1 FROM workflow w WHERE w.id = x.workflow_id AND w.state IN {_HANDS_OUT}) "
            "ORDER BY x.rank, x.ready_at LIMIT p.most) y"
        )
        found = self.select(text, [list(column) for column in zip(*places, strict=True)])
        return [(n - 1, *row) for n, *row in found]

    def lock(self, ids: Sequence[str], wait: bool) -> list[Any]:
        self._execute("SET LOCAL lock_timeout = '50ms'", ())
        skip = "" if wait else " SKIP LOCKED"
        text = (
            f"SELECT {listed(self, t.workflow, 'x')} FROM workflow x WHERE x.id = ANY(%s::text[]) "
            f"ORDER BY x.id FOR NO KEY UPDATE{skip}"
        )
        return self.select(text, [list(ids)])

    def insert(self, table: sa.Table, names: Sequence[str], rows: Sequence[Row]) -> None:
        arrays, params = self._arrays(table, names, rows)
        self._execute(
            f"INSERT INTO {self.q(table.name)} ({_joined(self, names)}) SELECT * FROM {arrays}", tuple(params)
        )

    def update(self, table: sa.Table, keys: Sequence[str], names: Sequence[str], rows: Sequence[Row]) -> int:
        arrays, params = self._arrays(table, [*keys, *names], rows)
        given = ", ".join([*(f"k{n}" for n in range(len(keys))), *(f"n{n}" for n in range(len(names)))])
        new = ", ".join(f"{self.q(name)} = u.n{n}" for n, name in enumerate(names))
        where = " AND ".join(f"x.{self.q(key)} = u.k{n}" for n, key in enumerate(keys))
        text = f"UPDATE {self.q(table.name)} x SET {new} FROM {arrays} AS u({given}) WHERE {where}"
        return int(self._execute(text, tuple(params)).rowcount)

    def delete(self, table: sa.Table, keys: Sequence[str], rows: Sequence[Row]) -> int:
        where, params = self.among([table.c[key] for key in keys], rows, "x")
        return int(self._execute(f"DELETE FROM {self.q(table.name)} x WHERE {where}", tuple(params)).rowcount)


@functools.cache
def _postgresql_type(table: sa.Table, name: str) -> str:
    kinds: Mapping[type[Any], str] = {sa.BigInteger: "int8", sa.Integer: "int4", sa.Double: "float8"}
    column = table.c[name].type
    return next((word for kind, word in kinds.items() if isinstance(column, kind)), "text")


class MariaDbSets(_ServerSets):
    """Sets are lists of values in the statement's text."""

    def q(self, name: str) -> str:
        return f"`{name}`"

    def among(self, names: Sequence[sa.Column[Any]], rows: Sequence[Row], alias: str) -> tuple[str, list[Any]]:
        params = [value for row in rows for value in row]
        if len(names) == 1:
            return f"{alias}.{names[0].name} IN ({', '.join(['%s'] * len(rows))})", params
        left = ", ".join(f"{alias}.{column.name}" for column in names)
        return f"({left}) IN ({_tuples(len(names), len(rows))})", params

    def ready(self, places: Sequence[tuple[str, str, int]], wanted: str) -> list[Any]:
        one = f"({_ready_of_one(self, '%s', wanted, '%s')})"
        params = [value for n, place in enumerate(places) for value in (n, *place)]
        return self.select(" UNION ALL ".join([one] * len(places)), params)

    def lock(self, ids: Sequence[str], wait: bool) -> list[Any]:
        marks = ", ".join(["%s"] * len(ids))
        patience, skip = ("SET STATEMENT max_statement_time=0.05 FOR ", "") if wait else ("", " SKIP LOCKED")
        text = (
            f"{patience}SELECT {listed(self, t.workflow, 'x')} FROM workflow x FORCE INDEX (PRIMARY) "
            f"WHERE x.id IN ({marks}) "
            f"ORDER BY x.id FOR UPDATE{skip}"
        )
        return self.select(text, list(ids))

    def insert(self, table: sa.Table, names: Sequence[str], rows: Sequence[Row]) -> None:
        text = f"INSERT INTO {self.q(table.name)} ({_joined(self, names)}) VALUES {_tuples(len(names), len(rows))}"
        self._execute(text, tuple(value for row in rows for value in row))

    def update(self, table: sa.Table, keys: Sequence[str], names: Sequence[str], rows: Sequence[Row]) -> int:
        given = [*(f"k{n}" for n in range(len(keys))), *(f"n{n}" for n in range(len(names)))]
        head = ", ".join(f"NULL AS {name}" for name in given)
        new = ", ".join(f"x.{self.q(name)} = u.n{n}" for n, name in enumerate(names))
        on = " AND ".join(f"x.{self.q(key)} = u.k{n}" for n, key in enumerate(keys))
        # The list first, and by the primary key: else the plan may read all rows of the table, and lock them.
        text = (
            f"UPDATE (SELECT {head} FROM DUAL WHERE FALSE UNION ALL VALUES {_tuples(len(given), len(rows))}) u "
            f"STRAIGHT_JOIN {self.q(table.name)} x FORCE INDEX (PRIMARY) ON {on} SET {new}"
        )
        return int(self._execute(text, tuple(value for row in rows for value in row)).rowcount)

    def delete(self, table: sa.Table, keys: Sequence[str], rows: Sequence[Row]) -> int:
        head = ", ".join(f"NULL AS k{n}" for n in range(len(keys)))
        on = " AND ".join(f"x.{self.q(key)} = u.k{n}" for n, key in enumerate(keys))
        text = (
            f"DELETE x FROM (SELECT {head} FROM DUAL WHERE FALSE UNION ALL VALUES {_tuples(len(keys), len(rows))}) u "
            f"STRAIGHT_JOIN {self.q(table.name)} x FORCE INDEX (PRIMARY) ON {on}"
        )
        return int(self._execute(text, tuple(value for row in rows for value in row)).rowcount)


def _tuples(width: int, count: int) -> str:
    return ", ".join([f"({', '.join(['%s'] * width)})"] * count)
