# SPDX-License-Identifier: Apache-2.0
"""Base: what every part of a transaction stands on."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store.claims import Dialect
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.prepared import Prepared

_IN_MOST = 500  # ids in one IN list: far below SQLite's 32766 variables and kind to every planner


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(values), _IN_MOST):
        yield values[start : start + _IN_MOST]


class Base:
    """One open transaction. ``wakes`` counts, by key, what there is to wake for after the commit."""

    def __init__(self, connection: sa.Connection, run: Prepared, dialect: Dialect, keys: KeyRing, now: float) -> None:
        self._connection = connection
        self._prepared = run
        self._dialect = dialect
        self._keys = keys
        self._now = now
        self._events: dict[str, list[tuple[str, str | None, str]]] = {}
        self._grown: dict[str, tuple[int, int]] = {}  # by workflow, tasks and bytes
        self._workflows_added = self._agents_added = 0
        self._locked: set[str] = set()  # workflows
        self.wakes: collections.Counter[str] = collections.Counter()
        self.finished: list[str] = []  # the states that tasks came to
        self.ceiling: Callable[[model.Usage], None] | None = None

    @property
    def now(self) -> float:
        return self._now

    def expect(self, rows: int) -> None:
        self._prepared.expect(rows)

    def _run(self, statement: Any, **params: Any) -> Any:
        return self._prepared(self._connection, statement, params)

    def _many(self, statement: Any, params: Sequence[Mapping[str, Any]]) -> None:
        if params:
            self._prepared.many(self._connection, statement, params)

    def _one(self, statement: Any, **params: Any) -> Any:
        return self._run(statement, **params).fetchone()

    def _insert_missing(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        return self._dialect.insert_missing(self._run, table, row)

    def _after(self, query: Any, table: sa.Table, project_id: str | None, marker: str | None) -> Any:
        """Start after the marker; one that names nothing of this project starts an empty page."""
        if marker is None:
            return query
        c = table.c
        start = sa.select(c.created_at).where(c.id == marker)
        if project_id is not None:
            start = start.where(c.project_id == project_id)
        at = start.scalar_subquery()
        return query.where(sa.or_(c.created_at > at, sa.and_(c.created_at == at, c.id > marker)))

    @property
    def growth(self) -> model.Usage:
        tasks = sum(tasks for tasks, _ in self._grown.values())
        size = sum(size for _, size in self._grown.values())
        return model.Usage(self._workflows_added, tasks, size, self._agents_added)

    def foresee(self, growth: model.Usage) -> None:
        if self.ceiling is not None:
            self.ceiling(growth)

    def grow(self, workflow_id: str, size: int, tasks: int = 0) -> None:
        before = self._grown.get(workflow_id, (0, 0))
        self._grown[workflow_id] = (before[0] + tasks, before[1] + size)

    def wake(self, key: str) -> None:
        self.wakes[key] += 1
