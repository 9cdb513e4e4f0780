# SPDX-License-Identifier: Apache-2.0
"""Transaction on hidden values: sealed on the way in, opened on the way out."""

from __future__ import annotations

import json
from collections.abc import Mapping

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store import rows, tables
from heat_workflow.store.statements import hidden as st
from heat_workflow.store.transaction.base import Base


class Hidden(Base):
    """Rows of hidden values."""

    def seal(self, task: model.Task, kind: str, values: Mapping[str, model.Json]) -> None:
        for name in sorted(values):
            sealed = self._keys.seal(f"{task.project_id}|{task.id}|{kind}|{name}", rows.dump(values[name]))
            self._run(st.INSERT_SECRET, task_id=task.id, kind=kind, name=name, sealed=sealed)

    def unseal(self, task: model.Task, kind: str) -> dict[str, model.Json]:
        found = self._run(st.READ_SECRETS, task_id=task.id, kind=kind)
        return {
            name: json.loads(self._keys.unseal(f"{task.project_id}|{task.id}|{kind}|{name}", sealed))
            for name, sealed in found
        }

    def erase(self, task: model.Task, kind: str) -> None:
        self._run(st.DROP_SECRETS, task_id=task.id, kind=kind)

    def reseal(self, marker: tuple[str, str, str] | None, limit: int) -> tuple[int, tuple[str, str, str] | None]:
        c = tables.secret.c
        query = sa.select(tables.task.c.project_id, c.task_id, c.kind, c.name, c.sealed).where(
            tables.task.c.id == c.task_id
        )
        if marker is not None:
            query = query.where(
                sa.tuple_(c.task_id, c.kind, c.name) > sa.tuple_(*(sa.literal(part) for part in marker))
            )
        found = self._connection.execute(query.order_by(c.task_id, c.kind, c.name).limit(limit)).fetchall()
        last = None
        for project_id, task_id, kind, name, sealed in found:
            row = f"{project_id}|{task_id}|{kind}|{name}"
            fresh = self._keys.seal(row, self._keys.unseal(row, sealed))
            self._run(st.SAVE_SECRET, task=task_id, sort=kind, key=name, new_sealed=fresh)
            last = (task_id, kind, name)
        return len(found), last if len(found) == limit else None

    def count_readable_secrets(self) -> int:
        c = tables.secret.c
        query = sa.select(tables.task.c.project_id, c.task_id, c.kind, c.name, c.sealed).where(
            tables.task.c.id == c.task_id
        )
        count = 0
        for project_id, task_id, kind, name, sealed in self._connection.execute(query):
            self._keys.unseal(f"{project_id}|{task_id}|{kind}|{name}", sealed)
            count += 1
        return count

    def keyed_digest(self, text: str) -> str:
        return self._keys.digest(text)
