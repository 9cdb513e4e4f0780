# SPDX-License-Identifier: Apache-2.0
"""Transaction on tasks, their requirements, definitions and concurrency keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store import rows, tables
from heat_workflow.store.statements import tasks as st
from heat_workflow.store.transaction.base import Base, chunks


class Tasks(Base):
    """Rows of tasks."""

    def find_task(self, project_id: str, task_id: str) -> model.Task | None:
        task = self.find_task_any_project(task_id)
        return task if task is not None and task.project_id == project_id else None

    def find_task_any_project(self, task_id: str) -> model.Task | None:
        row = self._one(st.FIND_TASK, id=task_id)
        return None if row is None else rows.task_of(row)

    def list_tasks(
        self, workflow_id: str, *, state: str | None = None, marker: str | None = None, limit: int | None = None
    ) -> list[model.Task]:
        if state is None and marker is None and limit is None:
            return [rows.task_of(row) for row in self._run(st.LIST_TASKS, workflow_id=workflow_id)]
        c = tables.task.c
        query = sa.select(tables.task).where(c.workflow_id == workflow_id)
        if state is not None:
            query = query.where(c.state == state)
        if marker is not None:
            start = sa.select(c.seq).where(c.id == marker, c.workflow_id == workflow_id).scalar_subquery()
            query = query.where(c.seq > start)
        return [rows.task_of(row) for row in self._connection.execute(query.order_by(c.seq).limit(limit))]

    def find_names(self, workflow_id: str, names: Iterable[str]) -> list[model.Task]:
        wanted = sorted(set(names))
        found: dict[str, model.Task] = {}
        for start in range(0, len(wanted), st.MANY):
            chunk = wanted[start : start + st.MANY]
            count = next(size for size in (*range(1, st.FEW + 1), st.MANY) if size >= len(chunk))
            padded = [*chunk, *[chunk[0]] * (count - len(chunk))]  # so that few statements serve every number
            places = {f"name_{n}": name for n, name in enumerate(padded)}
            for row in self._run(st.find_names(count), workflow_id=workflow_id, **places):
                task = rows.task_of(row)
                found[task.id] = task
        return sorted(found.values(), key=lambda task: task.seq)

    def insert_tasks(self, tasks: Sequence[model.Task], definitions: Mapping[str, model.Json]) -> None:
        shared = {(task.project_id, task.definition_id) for task in tasks}
        for project_id, definition_id in sorted(shared):
            self._share_definition(project_id, definition_id, definitions[definition_id])
        new = [rows.task_row(task) for task in tasks]
        self._many(st.INSERT_TASK, new)
        for row in new:
            self.grow(row["workflow_id"], model.TASK_ROW + len(row["spec"]), tasks=1)
        if tasks:
            self.grow(tasks[0].workflow_id, sum(len(rows.dump(body)) for body in definitions.values()))

    def _share_definition(self, project_id: str, definition_id: str, body: model.Json) -> None:
        """Have the definition there until this transaction ends, and from then on for the task that uses it."""
        row = {"project_id": project_id, "id": definition_id, "body": rows.dump(body)}
        while not self._insert_missing(tables.definition, row) and self._dialect.locks_rows:
            if self._one(st.HOLD_DEFINITION, project_id=project_id, id=definition_id) is not None:
                return

    def delete_unused_definitions(self, limit: int) -> int:
        unused = {(project_id, id_) for project_id, id_ in self._run(st.UNUSED_DEFINITIONS, most=limit)}
        c = tables.task.c
        for chunk in chunks(sorted(id_ for _, id_ in unused)):
            # Again, now that they are locked: a task may have come in between looking and locking.
            query = sa.select(c.project_id, c.definition_id).where(c.definition_id.in_(chunk)).distinct()
            unused -= {(project_id, id_) for project_id, id_ in self._connection.execute(query)}
        for project_id, id_ in sorted(unused):
            self._run(st.DELETE_DEFINITION, project_id=project_id, id=id_)
        return len(unused)

    def save_task(self, before: model.Task, after: model.Task) -> bool:
        changed = [name for name in st.MUTABLE if getattr(after, name) != getattr(before, name)]
        new = {f"new_{name}": rows.plain(getattr(after, name)) for name in changed or ("state",)}
        result = self._run(
            st.save_task(*changed),
            key=before.id,
            old_state=before.state.value,
            old_attempt=before.attempt,
            old_pending=before.pending,
            **new,
        )
        if result.rowcount != 1:
            return False
        if after.finished and after.state is not before.state:
            self.finished.append(after.state.value)
        return True

    def insert_requirements(self, workflow_id: str, edges: Iterable[tuple[str, str]]) -> None:
        self._many(
            st.INSERT_REQUIREMENT,
            [{"task_id": one, "requires_id": other, "workflow_id": workflow_id} for one, other in edges],
        )

    def has_unfinished(self, workflow_id: str) -> bool:
        return self._one(st.HAS_UNFINISHED, workflow_id=workflow_id) is not None

    def has_attached(self, workflow_id: str) -> bool:
        return self._one(st.HAS_ATTACHED, workflow_id=workflow_id) is not None

    def list_requirements(self, workflow_id: str) -> list[tuple[str, str]]:
        return [(task_id, requires) for task_id, requires in self._run(st.LIST_REQUIREMENTS, workflow_id=workflow_id)]

    def requirements_of(self, task_id: str) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.REQUIREMENTS_OF, task_id=task_id)]

    def requirement_states(self, task_id: str) -> list[tuple[str, model.TaskState]]:
        return [(id_, model.TaskState(state)) for id_, state in self._run(st.REQUIREMENT_STATES, task_id=task_id)]

    def dependants_of(self, task_id: str) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.DEPENDANTS_OF, requires_id=task_id)]

    def next_task_seq(self, workflow_id: str) -> int:
        return int(self._one(st.NEXT_TASK_SEQ, workflow_id=workflow_id)[0] or 0) + 1

    def get_definition(self, project_id: str, definition_id: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self._one(st.GET_DEFINITION, project_id=project_id, id=definition_id)[0])
        return body

    def find_ready(self, project_id: str, route: str, limit: int, offset: int) -> list[model.Task]:
        found = self._run(st.FIND_READY, project_id=project_id, route=route, most=limit, skip=offset)
        return [rows.task_of(row) for row in found]

    def due_ids(self, limit: int) -> list[str]:
        return [task_id for (task_id,) in self._run(st.DUE_IDS, now=self._now, most=limit)]

    def list_due(self, limit: int) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.LIST_DUE, now=self._now, most=limit)]

    def key_holder(self, project_id: str, concurrency_key: str) -> str | None:
        row = self._one(st.KEY_HOLDER, project_id=project_id, concurrency_key=concurrency_key)
        return None if row is None else str(row[0])

    def take_key(self, task: model.Task) -> bool:
        key = {"project_id": task.project_id, "concurrency_key": task.concurrency_key, "task_id": task.id}
        return self._insert_missing(tables.lock, key)

    def drop_key(self, task: model.Task) -> None:
        key = {"project_id": task.project_id, "concurrency_key": task.concurrency_key, "task_id": task.id}
        self._run(st.DROP_KEY, **key)

    def ready_with_key(self, project_id: str, concurrency_key: str, limit: int) -> list[model.Task]:
        found = self._run(st.READY_WITH_KEY, project_id=project_id, concurrency_key=concurrency_key, most=limit)
        return [rows.task_of(row) for row in found]

    def list_fanout(self, workflow_id: str, fanout: str, batch: int) -> list[model.Task]:
        found = self._run(st.LIST_FANOUT, workflow_id=workflow_id, fanout=fanout, batch=batch)
        return [rows.task_of(row) for row in found]

    def count_fanout(self, workflow_id: str, fanout: str) -> dict[str, int]:
        return dict(self._run(st.COUNT_FANOUT, workflow_id=workflow_id, fanout=fanout).fetchall())

    def batch_unfinished(self, workflow_id: str, fanout: str, batch: int) -> bool:
        return self._one(st.BATCH_UNFINISHED, workflow_id=workflow_id, fanout=fanout, batch=batch) is not None

    def undo_tasks(self, task_id: str) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.UNDO_TASKS, undo_of=task_id)]

    def save_spec(self, task: model.Task) -> None:
        row = rows.task_row(task)
        new = {f"new_{name}": row[name] for name in ("spec", "rank", "deadline_at", "due_at")}
        self._run(st.SAVE_SPEC, key=task.id, **new)

    def count_unfinished(self) -> dict[str, int]:
        return dict(self._run(st.COUNT_UNFINISHED).fetchall())

    def oldest_ready(self) -> float | None:
        row = self._one(st.OLDEST_READY)
        return None if row is None else row[0]

    def running_tasks(self, agent_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for chunk in chunks(agent_ids):
            for agent_id, task_id in self._connection.execute(st.RUNNING_TASKS, {"agent_ids": list(chunk)}):
                found.setdefault(agent_id, []).append(task_id)
        return found

    def held_tasks(self, agent_id: str) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.HELD_TASKS, agent_id=agent_id)]

    def stalled_tasks(self, agent_id: str) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.STALLED_TASKS, agent_id=agent_id)]
