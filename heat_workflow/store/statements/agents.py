# SPDX-License-Identifier: Apache-2.0
"""Statements on agents and their security events."""

from __future__ import annotations

import functools
from typing import Any

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
SAVE_POLLS_AT = sa.update(t.agent).where(t.agent.c.id == p("key")).values(assigned(t.agent, "polls_at"))
_REVOKED: sa.ColumnElement[str] = sa.literal_column(f"'{model.AgentState.REVOKED.value}'")


@functools.cache
def find_able(capabilities: int, *, by_server: bool) -> sa.Select[Any]:
    """The agent that holds so many capabilities, each given as the JSON string it is in the column.

    Whether a text holds another is asked with replace(): the three databases have it, and it takes every character as
    itself, as LIKE does not.
    """
    c = t.agent.c
    query = sa.select(t.agent).where(c.project_id == p("project_id"), c.state != _REVOKED)
    if by_server:
        query = query.where(c.server == p("server"))
    for n in range(capabilities):
        query = query.where(
            sa.func.replace(c.capabilities, p(f"capability_{n}"), sa.literal_column("''")) != c.capabilities
        )
    active: sa.ColumnElement[str] = sa.literal_column(f"'{model.AgentState.ACTIVE.value}'")
    none: sa.ColumnElement[int] = sa.literal_column("0")
    one: sa.ColumnElement[int] = sa.literal_column("1")
    heard = sa.func.coalesce(c.last_seen_at, none)
    return query.order_by(sa.case((c.state == active, none), else_=one), heard.desc()).limit(1)


LIST_TOMBSTONES = (
    sa.select(t.agent)
    .where(t.agent.c.state == _REVOKED, t.agent.c.revoked_at < p("before"))
    .order_by(t.agent.c.revoked_at)
    .limit(p("most", type_=sa.Integer))
)
AGENTS_KEPT = sa.select(sa.func.count()).where(t.agent.c.project_id == p("project_id"), t.agent.c.state != _REVOKED)
COUNT_AGENTS = (
    sa.select(t.agent.c.state, t.agent.c.version, sa.func.count())
    .where(t.agent.c.state != _REVOKED)
    .group_by(t.agent.c.state, t.agent.c.version)
)
INSERT_AGENT_EVENT = sa.insert(t.agent_event).values(
    {name: p(name) for name in ("agent_id", "project_id", "at", "type", "body", "task_id")}
)
LIST_AGENT_EVENTS = (
    sa.select(t.agent_event)
    .where(t.agent_event.c.agent_id == p("agent_id"), t.agent_event.c.id > p("after"))
    .order_by(t.agent_event.c.id)
    .limit(p("most", type_=sa.Integer))
)
RECENT_AGENT_EVENTS = (
    sa.select(t.agent_event.c.type, t.agent_event.c.at)
    .where(t.agent_event.c.agent_id == p("agent_id"))
    .order_by(t.agent_event.c.id.desc())
    .limit(p("most", type_=sa.Integer))
)
LIST_TASK_EVENTS = (
    sa.select(t.agent_event)
    .where(t.agent_event.c.task_id == p("task_id"))
    .order_by(t.agent_event.c.id)
    .limit(p("most", type_=sa.Integer))
)
