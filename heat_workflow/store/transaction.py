# SPDX-License-Identifier: Apache-2.0
"""One transaction: the Tx protocol in SQL, the same text for every database."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.failpoints import failpoint
from heat_workflow.store import rows, tables
from heat_workflow.store import statements as st
from heat_workflow.store.claims import Dialect
from heat_workflow.store.keyring import KeyRing

_IN_MOST = 500  # ids in one IN list: far below SQLite's 32766 variables and kind to every planner


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(values), _IN_MOST):
        yield values[start : start + _IN_MOST]


class SqlTx:
    """What a use case may do between BEGIN and COMMIT. ``wakes`` holds the keys to wake after the commit."""

    def __init__(
        self, connection: sa.Connection, run: st.Prepared, dialect: Dialect, keys: KeyRing, now: float
    ) -> None:
        self._connection = connection
        self._prepared = run
        self._dialect = dialect
        self._keys = keys
        self._now = now
        self._events: dict[str, list[tuple[str, str | None, str]]] = {}
        self.wakes: set[str] = set()
        self.finished: list[str] = []  # the states that tasks came to

    @property
    def now(self) -> float:
        return self._now

    def _run(self, statement: Any, **params: Any) -> Any:
        return self._prepared(self._connection, statement, params)

    def _one(self, statement: Any, **params: Any) -> Any:
        return self._run(statement, **params).fetchone()

    # -- workflows

    def find_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None:
        row = self._one(st.FIND_WORKFLOW, id=workflow_id, project_id=project_id)
        return None if row is None else rows.workflow_of(row)

    def lock_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None:
        row = self._one(st.LOCK_WORKFLOW, id=workflow_id, project_id=project_id)
        return None if row is None else rows.workflow_of(row)

    def insert_workflow(self, workflow: model.Workflow) -> bool:
        return self._insert_missing(tables.workflow, rows.workflow_row(workflow))

    def _insert_missing(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        return self._dialect.insert_missing(self._connection, table, [row]) == 1

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

    def count_tasks(self, workflow_id: str) -> dict[str, int]:
        return dict(self._run(st.COUNT_TASKS, workflow_id=workflow_id).fetchall())

    # -- tasks

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
        c = tables.task.c
        found: list[model.Task] = []
        for chunk in _chunks(sorted(set(names))):
            query = sa.select(tables.task).where(
                c.workflow_id == workflow_id,
                sa.or_(sa.and_(c.holds_name == 1, sa.or_(c.name.in_(chunk), c.fanout.in_(chunk))), c.id.in_(chunk)),
            )
            found += [rows.task_of(row) for row in self._connection.execute(query.order_by(c.seq))]
        return found

    def insert_tasks(self, tasks: Sequence[model.Task], definitions: Mapping[str, model.Json]) -> None:
        shared = {(task.project_id, task.definition_id) for task in tasks}
        for project_id, definition_id in sorted(shared):
            self._share_definition(project_id, definition_id, definitions[definition_id])
        if len(tasks) == 1:
            self._run(st.INSERT_TASK, **rows.task_row(tasks[0]))
        elif tasks:
            self._connection.execute(sa.insert(tables.task), [rows.task_row(task) for task in tasks])

    def _share_definition(self, project_id: str, definition_id: str, body: model.Json) -> None:
        """Have the definition there until this transaction ends, and from then on for the task that uses it."""
        row = {"project_id": project_id, "id": definition_id, "body": rows.dump(body)}
        while not self._insert_missing(tables.definition, row) and self._dialect.locks_rows:
            if self._one(st.HOLD_DEFINITION, project_id=project_id, id=definition_id) is not None:
                return

    def delete_unused_definitions(self, limit: int) -> int:
        unused = {(project_id, id_) for project_id, id_ in self._run(st.UNUSED_DEFINITIONS, most=limit)}
        c = tables.task.c
        for chunk in _chunks(sorted(id_ for _, id_ in unused)):
            # Again, now that they are locked: a task may have come in between looking and locking.
            query = sa.select(c.project_id, c.definition_id).where(c.definition_id.in_(chunk)).distinct()
            unused -= {(project_id, id_) for project_id, id_ in self._connection.execute(query)}
        for project_id, id_ in sorted(unused):
            self._run(st.DELETE_DEFINITION, project_id=project_id, id=id_)
        return len(unused)

    def save_task(self, before: model.Task, after: model.Task) -> bool:
        if after.state is model.TaskState.LEASED and before.state is model.TaskState.READY and not self._free(before):
            return False
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

    def _free(self, task: model.Task) -> bool:
        """Whether nobody else is about to claim the ready task. Only the task itself is locked, not the others in
        sight: an agent that comes at the same moment takes the next one instead of going away empty."""
        return not self._dialect.locks_rows or self._one(st.LOCK_TO_CLAIM, id=task.id) is not None

    def insert_requirements(self, workflow_id: str, edges: Iterable[tuple[str, str]]) -> None:
        for task_id, requires_id in edges:
            self._run(st.INSERT_REQUIREMENT, task_id=task_id, requires_id=requires_id, workflow_id=workflow_id)

    def has_unfinished(self, workflow_id: str) -> bool:
        return self._one(st.HAS_UNFINISHED, workflow_id=workflow_id) is not None

    def has_attached(self, workflow_id: str) -> bool:
        return self._one(st.HAS_ATTACHED, workflow_id=workflow_id) is not None

    def list_requirements(self, workflow_id: str) -> list[tuple[str, str]]:
        return [(task_id, requires) for task_id, requires in self._run(st.LIST_REQUIREMENTS, workflow_id=workflow_id)]

    def requirements_of(self, task_id: str) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.REQUIREMENTS_OF, task_id=task_id)]

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

    # -- secrets

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

    # -- attempts

    def insert_attempt(self, attempt: model.Attempt) -> None:
        self._run(st.INSERT_ATTEMPT, **rows.attempt_row(attempt))

    def save_attempt(self, attempt: model.Attempt) -> None:
        row = rows.attempt_row(attempt)
        fixed = ("task_id", "attempt", "agent_id", "claim_id", "claimed_at")
        new = {f"new_{name}": value for name, value in row.items() if name not in fixed}
        self._run(st.SAVE_ATTEMPT, key=attempt.task_id, number=attempt.attempt, **new)

    def find_attempt(self, task_id: str, attempt: int) -> model.Attempt | None:
        row = self._one(st.FIND_ATTEMPT, task_id=task_id, attempt=attempt)
        return None if row is None else rows.attempt_of(row)

    def find_claim(self, agent_id: str, claim_id: str) -> model.Attempt | None:
        row = self._one(st.FIND_CLAIM, agent_id=agent_id, claim_id=claim_id)
        return None if row is None else rows.attempt_of(row)

    def list_attempts(self, task_id: str) -> list[model.Attempt]:
        return [rows.attempt_of(row) for row in self._run(st.LIST_ATTEMPTS, task_id=task_id)]

    def last_attempts(self, tasks: Sequence[model.Task]) -> dict[str, model.Attempt]:
        c = tables.attempt.c
        found: dict[str, model.Attempt] = {}
        for chunk in _chunks([task.id for task in tasks if task.attempt]):
            query = (
                sa.select(tables.attempt)
                .join(tables.task, sa.and_(tables.task.c.id == c.task_id, tables.task.c.attempt == c.attempt))
                .where(c.task_id.in_(chunk))
            )
            for row in self._connection.execute(query):
                attempt = rows.attempt_of(row)
                found[attempt.task_id] = attempt
        return found

    # -- agents

    def find_agent(self, agent_id: str) -> model.Agent | None:
        row = self._one(st.FIND_AGENT, id=agent_id)
        return None if row is None else rows.agent_of(row)

    def lock_agent(self, agent_id: str) -> model.Agent | None:
        row = self._one(st.LOCK_AGENT, id=agent_id)
        return None if row is None else rows.agent_of(row)

    def insert_agent(self, agent: model.Agent) -> bool:
        return self._insert_missing(tables.agent, rows.agent_row(agent))

    def save_agent(self, agent: model.Agent) -> None:
        row = rows.agent_row(agent)
        new = {f"new_{name}": value for name, value in row.items() if name not in ("id", "project_id")}
        self._run(st.SAVE_AGENT, key=agent.id, **new)

    def save_last_seen(self, times: Mapping[str, float]) -> None:
        for agent_id in sorted(times):
            self._run(st.SAVE_LAST_SEEN, key=agent_id, new_last_seen_at=times[agent_id])

    def list_agents(
        self, project_id: str | None, filters: Mapping[str, Any], marker: str | None, limit: int
    ) -> list[model.Agent]:
        c = tables.agent.c
        query = sa.select(tables.agent)
        if project_id is not None:
            query = query.where(c.project_id == project_id)
        for name in ("state", "server", "version"):
            if name in filters:
                query = query.where(c[name] == filters[name])
        if "seen_before" in filters:
            query = query.where(sa.or_(c.last_seen_at.is_(None), c.last_seen_at < filters["seen_before"]))
        query = self._after(query, tables.agent, project_id, marker).order_by(c.created_at, c.id).limit(limit)
        return [rows.agent_of(row) for row in self._connection.execute(query)]

    def list_tombstones(self, before: float, limit: int) -> list[model.Agent]:
        return [rows.agent_of(row) for row in self._run(st.LIST_TOMBSTONES, before=before, most=limit)]

    def delete_agent(self, agent_id: str) -> None:
        self._connection.execute(sa.delete(tables.agent_event).where(tables.agent_event.c.agent_id == agent_id))
        self._connection.execute(sa.delete(tables.agent).where(tables.agent.c.id == agent_id))

    def held_tasks(self, agent_id: str) -> list[model.Task]:
        return [rows.task_of(row) for row in self._run(st.HELD_TASKS, agent_id=agent_id)]

    def insert_agent_event(self, agent: model.Agent, type_: str, body: Mapping[str, model.Json]) -> None:
        self._run(
            st.INSERT_AGENT_EVENT,
            agent_id=agent.id,
            project_id=agent.project_id,
            at=self._now,
            type=type_,
            body=rows.dump(body),
        )

    def list_agent_events(self, agent_id: str, after: int, limit: int) -> list[dict[str, Any]]:
        found = self._run(st.LIST_AGENT_EVENTS, agent_id=agent_id, after=after, most=limit)
        return [{"id": id_, "at": at, "type": type_, "body": json.loads(body)} for id_, _, _, at, type_, body in found]

    # -- events and logs

    def add_event(self, workflow_id: str, type_: str, task: model.Task | None, body: Mapping[str, model.Json]) -> None:
        task_id = None if task is None else task.id
        self._events.setdefault(workflow_id, []).append((type_, task_id, rows.dump(body)))
        self.wakes.add(f"workflow:{workflow_id}")
        if task_id is not None:
            self.wakes.add(f"task:{task_id}")

    def flush_events(self) -> None:
        """Number and write the events: last in the transaction, as numbering locks the workflow."""
        for workflow_id in sorted(self._events):
            events = self._events[workflow_id]
            self._run(st.BUMP_EVENT_SEQ, key=workflow_id, count=len(events))
            last = int(self._one(st.GET_EVENT_SEQ, id=workflow_id)[0])
            first = last - len(events) + 1
            failpoint("events.numbered")
            for seq, (type_, task_id, body) in enumerate(events, start=first):
                self._run(
                    st.INSERT_EVENT,
                    workflow_id=workflow_id,
                    seq=seq,
                    at=self._now,
                    type=type_,
                    task_id=task_id,
                    body=body,
                )
        self._events.clear()

    def forget_events(self, workflow_id: str) -> None:
        self._events.pop(workflow_id, None)

    def list_events(self, workflow_id: str, after: int, limit: int) -> list[model.Event]:
        found = self._run(st.LIST_EVENTS, workflow_id=workflow_id, after=after, most=limit)
        fields = [field.name for field in dataclasses.fields(model.Event)]
        events = []
        for row in found:
            values = dict(zip(rows.columns(tables.event), row, strict=True))
            values["body"] = json.loads(values["body"])
            events.append(model.Event(**{name: values[name] for name in fields}))
        return events

    def insert_log(self, task_id: str, attempt: int, n: int, stream: str, text: str) -> None:
        self._run(st.INSERT_LOG, task_id=task_id, attempt=attempt, n=n, stream=stream, text=text)

    def list_log(self, task_id: str, attempt: int, after: int) -> list[dict[str, Any]]:
        found = self._run(st.LIST_LOG, task_id=task_id, attempt=attempt, after=after)
        return [{"n": n, "stream": stream, "text": text} for n, stream, text in found]

    # -- numbers

    def count_unfinished(self) -> dict[str, int]:
        return dict(self._run(st.COUNT_UNFINISHED).fetchall())

    def oldest_ready(self) -> float | None:
        row = self._one(st.OLDEST_READY)
        return None if row is None else row[0]

    def count_agents(self) -> dict[tuple[str, str], int]:
        return {(state, version or ""): count for state, version, count in self._run(st.COUNT_AGENTS)}

    # -- wake-ups

    def wake(self, key: str) -> None:
        self.wakes.add(key)
