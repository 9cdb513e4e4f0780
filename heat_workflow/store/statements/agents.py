# SPDX-License-Identifier: Apache-2.0
"""Statements on agents and their security events."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as p

from heat_workflow import model
from heat_workflow.store import tables as t
from heat_workflow.store.statements.parts import assigned

FIND_AGENT = sa.select(t.agent).where(t.agent.c.id == p("id"))
LOCK_AGENT = FIND_AGENT.with_for_update()
SAVE_AGENT = (
    sa.update(t.agent)
    .where(t.agent.c.id == p("key"))
    .values(assigned(t.agent, *(column.name for column in t.agent.columns if column.name not in ("id", "project_id"))))
)
SAVE_LAST_SEEN = sa.update(t.agent).where(t.agent.c.id == p("key")).values(assigned(t.agent, "last_seen_at"))
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
