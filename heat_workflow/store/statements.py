# SPDX-License-Identifier: Apache-2.0
"""Statements: every fixed SQL statement of the store, built once and compiled once per database."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as p

from heat_workflow import model
from heat_workflow.store import tables as t

_UNFINISHED = [state.value for state in model.UNFINISHED]
_HELD = [state.value for state in model.HELD]


def _literals(column: sa.Column[Any], values: list[str]) -> sa.ColumnElement[bool]:
    """``column IN (...)`` with the words written out: fixed words of ours, so the statement stays the same text."""
    return sa.or_(*(column == sa.literal_column(f"'{value}'") for value in sorted(values)))


def _set(table: sa.Table, *names: str) -> dict[str, Any]:
    return {name: p(f"new_{name}") for name in names}


FIND_WORKFLOW = sa.select(t.workflow).where(t.workflow.c.id == p("id"), t.workflow.c.project_id == p("project_id"))
LOCK_WORKFLOW = FIND_WORKFLOW.with_for_update()
SAVE_WORKFLOW = (
    sa.update(t.workflow)
    .where(t.workflow.c.id == p("key"))
    .values(_set(t.workflow, "name", "tags", "state", "on_failure", "finished_at"))
)
COUNT_TASKS = (
    sa.select(t.task.c.state, sa.func.count()).where(t.task.c.workflow_id == p("workflow_id")).group_by(t.task.c.state)
)
HAS_UNFINISHED: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .where(t.task.c.workflow_id == p("workflow_id"), _literals(t.task.c.state, _UNFINISHED))
    .limit(1)
)

HAS_ATTACHED: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .where(t.task.c.workflow_id == p("workflow_id"), t.task.c.detached == sa.literal_column("0"))
    .limit(1)
)

LIST_ENDED = (
    sa.select(t.workflow)
    .where(t.workflow.c.finished_at < p("before"))
    .order_by(t.workflow.c.finished_at)
    .limit(p("most", type_=sa.Integer))
)
_LIVE = sa.text(t.LIVE)  # said as the partial index says it, or SQLite would not use that
COUNT_UNFINISHED = sa.select(t.task.c.state, sa.func.count()).where(_LIVE).group_by(t.task.c.state)
OLDEST_READY = (
    sa.select(t.task.c.ready_at)
    .where(_LIVE, t.task.c.state == sa.literal_column(f"'{model.TaskState.READY.value}'"))
    .order_by(t.task.c.ready_at)
    .limit(sa.literal_column("1"))
)
FIND_TASK = sa.select(t.task).where(t.task.c.id == p("id"))
LIST_TASKS = sa.select(t.task).where(t.task.c.workflow_id == p("workflow_id")).order_by(t.task.c.seq)
NEXT_TASK_SEQ = sa.select(sa.func.max(t.task.c.seq)).where(t.task.c.workflow_id == p("workflow_id"))
INSERT_TASK = sa.insert(t.task)
MUTABLE = (
    "holds_name",
    "state",
    "status_reason",
    "pending",
    "attempt",
    "attempts_left",
    "claim_id",
    "agent_id",
    "detached",
    "confirmed",
    "ready_at",
    "started_at",
    "finished_at",
    "not_before",
    "lease_until",
    "cancel_until",
    "deadline_at",
    "due_at",
)


@functools.cache
def save_task(*changed: str) -> sa.Update:
    """Compare and set the changed columns alone: a heartbeat shall not undo what others wrote into the same row."""
    return (
        sa.update(t.task)
        .where(
            t.task.c.id == p("key"),
            t.task.c.state == p("old_state"),
            t.task.c.attempt == p("old_attempt"),
            t.task.c.pending == p("old_pending"),
        )
        .values(_set(t.task, *(changed or ("state",))))
    )


LOCK_TO_CLAIM: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .select_from(t.task)
    .where(t.task.c.id == p("id"), t.task.c.state == sa.literal_column(f"'{model.TaskState.READY.value}'"))
    .with_for_update(skip_locked=True)
)
REQUIREMENTS_OF = (
    sa.select(t.task)
    .join(t.requirement, t.requirement.c.requires_id == t.task.c.id)
    .where(t.requirement.c.task_id == p("task_id"))
    .order_by(t.task.c.seq)
)
DEPENDANTS_OF = (
    sa.select(t.task)
    .join(t.requirement, t.requirement.c.task_id == t.task.c.id)
    .where(t.requirement.c.requires_id == p("requires_id"))
    .order_by(t.task.c.seq)
)
INSERT_REQUIREMENT = sa.insert(t.requirement)
LIST_REQUIREMENTS = (
    sa.select(t.requirement.c.task_id, t.requirement.c.requires_id)
    .where(t.requirement.c.workflow_id == p("workflow_id"))
    .order_by(t.requirement.c.task_id, t.requirement.c.requires_id)
)
# A shared definition is held while a task with it is on its way in, so that nobody takes it for unused.
HOLD_DEFINITION: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .select_from(t.definition)
    .where(t.definition.c.project_id == p("project_id"), t.definition.c.id == p("id"))
    .with_for_update(read=True, key_share=True)
)
UNUSED_DEFINITIONS = (
    sa.select(t.definition.c.project_id, t.definition.c.id)
    .where(
        ~sa.exists().where(
            t.task.c.project_id == t.definition.c.project_id, t.task.c.definition_id == t.definition.c.id
        )
    )
    .limit(p("most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)
DELETE_DEFINITION = sa.delete(t.definition).where(
    t.definition.c.project_id == p("project_id"), t.definition.c.id == p("id")
)
GET_DEFINITION = sa.select(t.definition.c.body).where(
    t.definition.c.project_id == p("project_id"), t.definition.c.id == p("id")
)
FIND_READY = (
    sa.select(t.task)
    .where(
        t.task.c.project_id == p("project_id"),
        t.task.c.route == p("route"),
        t.task.c.state == sa.literal_column(f"'{model.TaskState.READY.value}'"),
        sa.exists().where(
            t.workflow.c.id == t.task.c.workflow_id,
            _literals(t.workflow.c.state, [model.WorkflowState.ACTIVE.value, model.WorkflowState.UNDOING.value]),
        ),
    )
    .order_by(t.task.c.rank, t.task.c.ready_at)
    .limit(p("most", type_=sa.Integer))
    .offset(p("skip", type_=sa.Integer))
)
LIST_DUE = (
    sa.select(t.task).where(t.task.c.due_at <= p("now")).order_by(t.task.c.due_at).limit(p("most", type_=sa.Integer))
)
KEY_HOLDER = sa.select(t.lock.c.task_id).where(
    t.lock.c.project_id == p("project_id"), t.lock.c.concurrency_key == p("concurrency_key")
)
DROP_KEY = sa.delete(t.lock).where(
    t.lock.c.project_id == p("project_id"),
    t.lock.c.concurrency_key == p("concurrency_key"),
    t.lock.c.task_id == p("task_id"),
)
READY_WITH_KEY = (
    sa.select(t.task)
    .where(
        t.task.c.project_id == p("project_id"),
        t.task.c.concurrency_key == p("concurrency_key"),
        t.task.c.state == sa.literal_column(f"'{model.TaskState.READY.value}'"),
    )
    .order_by(t.task.c.rank, t.task.c.ready_at)
    .limit(p("most", type_=sa.Integer))
)
LIST_FANOUT = (
    sa.select(t.task)
    .where(
        t.task.c.workflow_id == p("workflow_id"),
        t.task.c.fanout == p("fanout"),
        t.task.c.batch == p("batch"),
        t.task.c.holds_name == sa.literal_column("1"),
    )
    .order_by(t.task.c.seq)
)
COUNT_FANOUT = (
    sa.select(t.task.c.state, sa.func.count())
    .where(
        t.task.c.workflow_id == p("workflow_id"),
        t.task.c.fanout == p("fanout"),
        t.task.c.holds_name == sa.literal_column("1"),
    )
    .group_by(t.task.c.state)
)
BATCH_UNFINISHED: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .where(
        t.task.c.workflow_id == p("workflow_id"),
        t.task.c.fanout == p("fanout"),
        t.task.c.batch <= p("batch"),
        t.task.c.holds_name == sa.literal_column("1"),
        _literals(t.task.c.state, _UNFINISHED),
    )
    .limit(1)
)
UNDO_TASKS = sa.select(t.task).where(t.task.c.undo_of == p("undo_of")).order_by(t.task.c.seq)
SAVE_SPEC = (
    sa.update(t.task).where(t.task.c.id == p("key")).values(_set(t.task, "spec", "rank", "deadline_at", "due_at"))
)
READ_SECRETS = sa.select(t.secret.c.name, t.secret.c.sealed).where(
    t.secret.c.task_id == p("task_id"), t.secret.c.kind == p("kind")
)
DROP_SECRETS = sa.delete(t.secret).where(t.secret.c.task_id == p("task_id"), t.secret.c.kind == p("kind"))
SAVE_SECRET = (
    sa.update(t.secret)
    .where(t.secret.c.task_id == p("task"), t.secret.c.kind == p("sort"), t.secret.c.name == p("key"))
    .values(_set(t.secret, "sealed"))
)
INSERT_SECRET = sa.insert(t.secret)
HELD_TASKS = sa.select(t.task).where(t.task.c.agent_id == p("agent_id"), _literals(t.task.c.state, _HELD))

INSERT_ATTEMPT = sa.insert(t.attempt)
SAVE_ATTEMPT = (
    sa.update(t.attempt)
    .where(t.attempt.c.task_id == p("key"), t.attempt.c.attempt == p("number"))
    .values(
        _set(
            t.attempt,
            "finished_at",
            "result",
            "reason",
            "digest",
            "deploy_status_code",
            "deploy_stdout",
            "deploy_stderr",
            "outputs",
        )
    )
)
FIND_ATTEMPT = sa.select(t.attempt).where(t.attempt.c.task_id == p("task_id"), t.attempt.c.attempt == p("attempt"))
FIND_CLAIM = sa.select(t.attempt).where(t.attempt.c.agent_id == p("agent_id"), t.attempt.c.claim_id == p("claim_id"))
LIST_ATTEMPTS = sa.select(t.attempt).where(t.attempt.c.task_id == p("task_id")).order_by(t.attempt.c.attempt)

FIND_AGENT = sa.select(t.agent).where(t.agent.c.id == p("id"))
LOCK_AGENT = FIND_AGENT.with_for_update()
SAVE_AGENT = (
    sa.update(t.agent)
    .where(t.agent.c.id == p("key"))
    .values(_set(t.agent, *(column.name for column in t.agent.columns if column.name not in ("id", "project_id"))))
)
SAVE_LAST_SEEN = sa.update(t.agent).where(t.agent.c.id == p("key")).values(_set(t.agent, "last_seen_at"))
_REVOKED: sa.ColumnElement[str] = sa.literal_column(f"'{model.AgentState.REVOKED.value}'")
LIST_TOMBSTONES = (
    sa.select(t.agent)
    .where(t.agent.c.state == _REVOKED, t.agent.c.revoked_at < p("before"))
    .order_by(t.agent.c.revoked_at)
    .limit(p("most", type_=sa.Integer))
)
COUNT_AGENTS = (
    sa.select(t.agent.c.state, t.agent.c.version, sa.func.count())
    .where(t.agent.c.state != _REVOKED)
    .group_by(t.agent.c.state, t.agent.c.version)
)
INSERT_AGENT_EVENT = sa.insert(t.agent_event).values(
    {name: p(name) for name in ("agent_id", "project_id", "at", "type", "body")}
)
LIST_AGENT_EVENTS = (
    sa.select(t.agent_event)
    .where(t.agent_event.c.agent_id == p("agent_id"), t.agent_event.c.id > p("after"))
    .order_by(t.agent_event.c.id)
    .limit(p("most", type_=sa.Integer))
)

BUMP_EVENT_SEQ = (
    sa.update(t.workflow)
    .where(t.workflow.c.id == p("key"))
    .values(event_seq=t.workflow.c.event_seq + p("count", type_=sa.BigInteger))
)
GET_EVENT_SEQ = sa.select(t.workflow.c.event_seq).where(t.workflow.c.id == p("id"))
INSERT_EVENT = sa.insert(t.event)
LIST_EVENTS = (
    sa.select(t.event)
    .where(t.event.c.workflow_id == p("workflow_id"), t.event.c.seq > p("after"))
    .order_by(t.event.c.seq)
    .limit(p("most", type_=sa.Integer))
)
INSERT_LOG = sa.insert(t.log_chunk)
LIST_LOG = (
    sa.select(t.log_chunk.c.n, t.log_chunk.c.stream, t.log_chunk.c.text)
    .where(t.log_chunk.c.task_id == p("task_id"), t.log_chunk.c.attempt == p("attempt"), t.log_chunk.c.n > p("after"))
    .order_by(t.log_chunk.c.n)
)


class Prepared:
    """Runs statements of this module as text compiled once, a tenth of the time of looking them up at each call."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[int, tuple[str, list[str] | None, dict[str, Any]]] = {}

    def __call__(self, connection: sa.Connection, statement: Any, params: Mapping[str, Any]) -> Any:
        """The result, to be fetched as tuples."""
        text, values = self.prepared(statement, params)
        return connection.exec_driver_sql(text, values)

    def prepared(self, statement: Any, params: Mapping[str, Any]) -> tuple[str, Any]:
        """The statement's text and its parameters as the driver takes them."""
        text, positions, constants = self._compiled.get(id(statement)) or self._compile(statement)
        values = {**constants, **params}
        return text, values if positions is None else tuple(values[name] for name in positions)

    def _compile(self, statement: Any) -> tuple[str, list[str] | None, dict[str, Any]]:
        """The text, the order of its parameters where they have no names, and the values fixed in the statement."""
        compiled = statement.compile(dialect=self._dialect)
        positions = compiled.positiontup if compiled.positional else None
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        entry = self._compiled[id(statement)] = (str(compiled), positions, constants)
        return entry
