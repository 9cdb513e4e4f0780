# SPDX-License-Identifier: Apache-2.0
"""Transaction on workflows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store import rows, tables
from heat_workflow.store.statements import workflows as st
from heat_workflow.store.statements.agents import AGENTS_KEPT
from heat_workflow.store.transaction.base import Base

_PAGE = 500  # workflows looked through at a time for those with a tag


class Workflows(Base):
    """Rows of workflows."""

    def find_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None:
        row = self._one(st.FIND_WORKFLOW, id=workflow_id, project_id=project_id)
        return None if row is None else rows.workflow_of(row)

    def lock_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None:
        row = self._one(st.LOCK_WORKFLOW, id=workflow_id, project_id=project_id)
        self._locked.add(workflow_id)
        return None if row is None else rows.workflow_of(row)

    def lock_to_claim(self, task: model.Task) -> bool:
        if task.workflow_id in self._locked or not self._dialect.locks_rows:
            return True
        statement = st.LOCK_FREE_WORKFLOW if self._locked else st.LOCK_WORKFLOW
        if self._one(statement, id=task.workflow_id, project_id=task.project_id) is None:
            return False
        self._locked.add(task.workflow_id)
        return True

    def insert_workflow(self, workflow: model.Workflow) -> bool:
        inserted = self._insert_missing(tables.workflow, rows.workflow_row(workflow))
        self._workflows_added += inserted
        return inserted

    def usage(self, project_id: str) -> model.Usage:
        counts = (*self._one(st.USAGE, project_id=project_id), *self._one(AGENTS_KEPT, project_id=project_id))
        return model.Usage(*(int(count or 0) for count in counts))

    def save_workflow(self, workflow: model.Workflow) -> None:
        row = rows.workflow_row(workflow)
        new = {f"new_{name}": row[name] for name in ("name", "tags", "state", "on_failure", "finished_at")}
        self._run(st.SAVE_WORKFLOW, key=workflow.id, **new)

    def delete_workflow(self, workflow_id: str) -> None:
        task_ids = sa.select(tables.task.c.id).where(tables.task.c.workflow_id == workflow_id)
        for table in (tables.attempt, tables.log_chunk, tables.secret, tables.lock):
            self._connection.execute(sa.delete(table).where(table.c.task_id.in_(task_ids)))
        for table in (tables.event, tables.requirement, tables.task):
            self._connection.execute(sa.delete(table).where(table.c.workflow_id == workflow_id))
        self._connection.execute(sa.delete(tables.workflow).where(tables.workflow.c.id == workflow_id))

    def list_ended(self, before: float, limit: int) -> list[model.Workflow]:
        return [rows.workflow_of(row) for row in self._run(st.LIST_ENDED, before=before, most=limit)]

    def list_workflows(
        self, project_id: str | None, filters: Mapping[str, str], marker: str | None, limit: int
    ) -> list[model.Workflow]:
        c = tables.workflow.c
        query = sa.select(tables.workflow)
        if project_id is not None:
            query = query.where(c.project_id == project_id)
        for name in ("state", "name"):
            if name in filters:
                query = query.where(c[name] == filters[name])
        query = self._after(query, tables.workflow, project_id, marker).order_by(c.created_at, c.id)
        tag = filters.get("tag")
        if tag is None:
            return [rows.workflow_of(row) for row in self._connection.execute(query.limit(limit))]
        tagged = (workflow for workflow in self._all(query) if tag in workflow.tags)
        return list(itertools.islice(tagged, limit))

    def _all(self, query: sa.Select[Any]) -> Iterator[model.Workflow]:
        """Everything that the ordered query finds, read page by page as far as it is wanted."""
        for offset in itertools.count(0, _PAGE):
            page = self._connection.execute(query.limit(_PAGE).offset(offset)).fetchall()
            yield from (rows.workflow_of(row) for row in page)
            if len(page) < _PAGE:
                return

    def count_tasks(self, workflow_id: str) -> dict[str, int]:
        return dict(self._run(st.COUNT_TASKS, workflow_id=workflow_id).fetchall())
