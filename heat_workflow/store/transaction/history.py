# SPDX-License-Identifier: Apache-2.0
"""Transaction on what happened: attempts, events, logs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.failpoints import failpoint
from heat_workflow.store import rows, tables
from heat_workflow.store.statements import history as st
from heat_workflow.store.transaction.base import Base, chunks


class History(Base):
    """Rows of attempts, events and logs."""

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
        for chunk in chunks([task.id for task in tasks if task.attempt]):
            query = (
                sa.select(tables.attempt)
                .join(tables.task, sa.and_(tables.task.c.id == c.task_id, tables.task.c.attempt == c.attempt))
                .where(c.task_id.in_(chunk))
            )
            for row in self._connection.execute(query):
                attempt = rows.attempt_of(row)
                found[attempt.task_id] = attempt
        return found

    def add_event(self, workflow_id: str, type_: str, task: model.Task | None, body: Mapping[str, model.Json]) -> None:
        task_id = None if task is None else task.id
        self._events.setdefault(workflow_id, []).append((type_, task_id, rows.dump(body)))
        self.wake(f"workflow:{workflow_id}")
        if task_id is not None:
            self.wake(f"task:{task_id}")

    def flush_events(self) -> None:
        """Number and write the events, and count what came: last in the transaction, as it locks the workflow."""
        for workflow_id in sorted({*self._events, *self._grown}):
            events = self._events.get(workflow_id, [])
            tasks, size = self._grown.get(workflow_id, (0, 0))
            self._run(st.BUMP_EVENT_SEQ, key=workflow_id, count=len(events), tasks=tasks, bytes=size)
            if not events:
                continue
            last = int(self._one(st.GET_EVENT_SEQ, id=workflow_id)[0])
            first = last - len(events) + 1
            failpoint("events.numbered")
            places = {"workflow_id": workflow_id, "at": self._now}
            self._many(
                st.INSERT_EVENT,
                [
                    {**places, "seq": seq, "type": type_, "task_id": task_id, "body": body}
                    for seq, (type_, task_id, body) in enumerate(events, start=first)
                ],
            )
        self._events.clear()
        self._grown.clear()

    def forget_events(self, workflow_id: str) -> None:
        self._events.pop(workflow_id, None)
        self._grown.pop(workflow_id, None)

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
