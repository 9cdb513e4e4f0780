# SPDX-License-Identifier: Apache-2.0
"""Statements on tasks, their requirements, definitions and concurrency keys."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as p

from heat_workflow import model
from heat_workflow.store import tables as t
from heat_workflow.store.statements.parts import IS_HELD, IS_LIVE, IS_READY, UNFINISHED, assigned, literals

COUNT_UNFINISHED = sa.select(t.task.c.state, sa.func.count()).where(IS_LIVE).group_by(t.task.c.state)
OLDEST_READY = (
    sa.select(t.task.c.ready_at).where(IS_LIVE, IS_READY).order_by(t.task.c.ready_at).limit(sa.literal_column("1"))
)
HAS_UNFINISHED: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .where(t.task.c.workflow_id == p("workflow_id"), literals(t.task.c.state, UNFINISHED))
    .limit(1)
)
HAS_ATTACHED: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .where(t.task.c.workflow_id == p("workflow_id"), t.task.c.detached == sa.literal_column("0"))
    .limit(1)
)
FIND_TASK = sa.select(t.task).where(t.task.c.id == p("id"))
FEW = 8  # names that a statement of their own is kept for
MANY = 200  # names in one statement


@functools.cache
def find_names(count: int) -> sa.CompoundSelect[Any]:
    """The tasks of a workflow that hold one of so many names, are in a fan-out of that name, or have it as their id.

    Each by its own index; a task that fits in two ways comes twice.
    """
    c = t.task.c
    wanted: list[sa.BindParameter[str]] = [p(f"name_{n}") for n in range(count)]
    here, holds = c.workflow_id == p("workflow_id"), c.holds_name == sa.literal_column("1")
    return sa.union_all(
        sa.select(t.task).where(here, holds, c.name.in_(wanted)),
        sa.select(t.task).where(here, holds, c.fanout.in_(wanted)),
        sa.select(t.task).where(here, c.id.in_(wanted)),
    )


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
        .values(assigned(t.task, *(changed or ("state",))))
    )


REQUIREMENT_STATES = (
    sa.select(t.task.c.id, t.task.c.state)
    .join(t.requirement, t.requirement.c.requires_id == t.task.c.id)
    .where(t.requirement.c.task_id == p("task_id"))
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
        IS_READY,
        sa.exists().where(
            t.workflow.c.id == t.task.c.workflow_id,
            literals(t.workflow.c.state, [state.value for state in model.WORKFLOW_HANDS_OUT]),
        ),
    )
    .order_by(t.task.c.rank, t.task.c.ready_at)
    .limit(p("most", type_=sa.Integer))
    .offset(p("skip", type_=sa.Integer))
)
LIST_DUE = (
    sa.select(t.task).where(t.task.c.due_at <= p("now")).order_by(t.task.c.due_at).limit(p("most", type_=sa.Integer))
)
DUE_IDS = LIST_DUE.with_only_columns(t.task.c.id)
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
        IS_READY,
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
        literals(t.task.c.state, UNFINISHED),
    )
    .limit(1)
)
UNDO_TASKS = sa.select(t.task).where(t.task.c.undo_of == p("undo_of")).order_by(t.task.c.seq)
SAVE_SPEC = (
    sa.update(t.task).where(t.task.c.id == p("key")).values(assigned(t.task, "spec", "rank", "deadline_at", "due_at"))
)
RUNNING_TASKS = (
    sa.select(t.task.c.agent_id, t.task.c.id)
    .where(t.task.c.agent_id.in_(p("agent_ids", expanding=True)), IS_HELD)
    .order_by(t.task.c.started_at, t.task.c.id)
)
HELD_TASKS = sa.select(t.task).where(t.task.c.agent_id == p("agent_id"), IS_HELD)
STALLED_TASKS = sa.select(t.task).where(
    t.task.c.agent_id == p("agent_id"),
    IS_HELD,
    t.task.c.state == sa.literal_column(f"'{model.TaskState.STALLED.value}'"),
)
