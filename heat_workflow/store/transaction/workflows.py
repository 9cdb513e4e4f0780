# SPDX-License-Identifier: Apache-2.0
"""Transaction on workflows."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store import rows, tables
from heat_workflow.store.statements import workflows as st
from heat_workflow.store.transaction.base import Base


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
        return model.Usage(*(int(count or 0) for count in self._one(st.USAGE, project_id=project_id)))

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
        self, project_id: str, filters: Mapping[str, str], marker: str | None, limit: int
    ) -> list[model.Workflow]:
        c = tables.workflow.c
        query = sa.select(tables.workflow).where(c.project_id == project_id)
        for name in ("state", "name"):
            if name in filters:
                query = query.where(c[name] == filters[name])
        query = self._after(query, tables.workflow, project_id, marker).order_by(c.created_at, c.id)
        found = (rows.workflow_of(row) for row in self._connection.execute(query))
        tag = filters.get("tag")
        page: list[model.Workflow] = []
        for workflow in found:
            if tag is None or tag in workflow.tags:
                page.append(workflow)
            if len(page) == limit:
                break
        return page

    def count_tasks(self, workflow_id: str) -> dict[str, int]:
        return dict(self._run(st.COUNT_TASKS, workflow_id=workflow_id).fetchall())
