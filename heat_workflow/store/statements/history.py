# SPDX-License-Identifier: Apache-2.0
"""Statements on what happened: attempts, events, logs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as p

from heat_workflow.store import tables as t
from heat_workflow.store.statements.parts import assigned

OUTCOME = (  # the columns that a report fills in
    "finished_at",
    "result",
    "reason",
    "digest",
    "deploy_status_code",
    "deploy_stdout",
    "deploy_stderr",
    "outputs",
)
INSERT_ATTEMPT = sa.insert(t.attempt)
SAVE_ATTEMPT = (
    sa.update(t.attempt)
    .where(t.attempt.c.task_id == p("key"), t.attempt.c.attempt == p("number"))
    .values(assigned(t.attempt, *OUTCOME))
)
FIND_ATTEMPT = sa.select(t.attempt).where(t.attempt.c.task_id == p("task_id"), t.attempt.c.attempt == p("attempt"))
FIND_CLAIM = sa.select(t.attempt).where(t.attempt.c.agent_id == p("agent_id"), t.attempt.c.claim_id == p("claim_id"))
LIST_ATTEMPTS = sa.select(t.attempt).where(t.attempt.c.task_id == p("task_id")).order_by(t.attempt.c.attempt)

BUMP_EVENT_SEQ = (
    sa.update(t.workflow)
    .where(t.workflow.c.id == p("key"))
    .values(
        event_seq=t.workflow.c.event_seq + p("count", type_=sa.BigInteger),
        task_count=t.workflow.c.task_count + p("tasks", type_=sa.BigInteger),
        byte_count=t.workflow.c.byte_count + p("bytes", type_=sa.BigInteger),
    )
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
