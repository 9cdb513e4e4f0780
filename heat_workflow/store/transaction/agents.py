# SPDX-License-Identifier: Apache-2.0
"""Transaction on agents and their security events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store import rows, tables
from heat_workflow.store.statements import agents as st
from heat_workflow.store.transaction.base import Base


def _event_of(row: Any) -> dict[str, Any]:
    fields = dict(zip(rows.columns(tables.agent_event), row, strict=True))
    return {name: fields[name] for name in ("id", "agent_id", "at", "type")} | {"body": json.loads(fields["body"])}


class Agents(Base):
    """Rows of agents."""

    def find_agent(self, agent_id: str) -> model.Agent | None:
        row = self._one(st.FIND_AGENT, id=agent_id)
        return None if row is None else rows.agent_of(row)

    def lock_agent(self, agent_id: str) -> model.Agent | None:
        row = self._one(st.LOCK_AGENT, id=agent_id)
        return None if row is None else rows.agent_of(row)

    def insert_agent(self, agent: model.Agent) -> bool:
        inserted = self._insert_missing(tables.agent, rows.agent_row(agent))
        self._agents_added += inserted
        return inserted

    def save_agent(self, agent: model.Agent) -> None:
        row = rows.agent_row(agent)
        new = {f"new_{name}": value for name, value in row.items() if name not in ("id", "project_id")}
        self._run(st.SAVE_AGENT, key=agent.id, **new)

    def save_last_seen(self, times: Mapping[str, float]) -> None:
        for agent_id in sorted(times):
            self._run(st.SAVE_LAST_SEEN, key=agent_id, new_last_seen_at=times[agent_id])

    def save_polls_at(self, agent_id: str, place: str) -> None:
        self._run(st.SAVE_POLLS_AT, key=agent_id, new_polls_at=place)

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

    def find_able_agent(self, project_id: str, capabilities: Sequence[str]) -> model.Agent | None:
        wanted = {f"capability_{n}": rows.dump(capability) for n, capability in enumerate(capabilities)}
        places = {"project_id": project_id, **wanted}
        row = None
        for server in (c.removeprefix("server=") for c in capabilities if c.startswith("server=")):
            row = row or self._one(st.find_able(len(wanted), by_server=True), server=server, **places)
        row = row or self._one(st.find_able(len(wanted), by_server=False), **places)
        return None if row is None else rows.agent_of(row)

    def list_tombstones(self, before: float, limit: int) -> list[model.Agent]:
        return [rows.agent_of(row) for row in self._run(st.LIST_TOMBSTONES, before=before, most=limit)]

    def delete_agent(self, agent_id: str) -> None:
        self._connection.execute(sa.delete(tables.agent_event).where(tables.agent_event.c.agent_id == agent_id))
        self._connection.execute(sa.delete(tables.agent).where(tables.agent.c.id == agent_id))

    def insert_agent_event(
        self, agent: model.Agent, type_: str, body: Mapping[str, model.Json], task_id: str | None = None
    ) -> None:
        self._run(
            st.INSERT_AGENT_EVENT,
            agent_id=agent.id,
            project_id=agent.project_id,
            at=self._now,
            type=type_,
            body=rows.dump(body),
            task_id=task_id,
        )

    def list_agent_events(self, agent_id: str, after: int, limit: int) -> list[dict[str, Any]]:
        return [_event_of(row) for row in self._run(st.LIST_AGENT_EVENTS, agent_id=agent_id, after=after, most=limit)]

    def recent_agent_events(self, agent_id: str, limit: int) -> list[tuple[str, float]]:
        return [(type_, at) for type_, at in self._run(st.RECENT_AGENT_EVENTS, agent_id=agent_id, most=limit)]

    def list_task_agent_events(self, task_id: str, limit: int) -> list[dict[str, Any]]:
        return [_event_of(row) for row in self._run(st.LIST_TASK_EVENTS, task_id=task_id, most=limit)]

    def count_agents(self) -> dict[tuple[str, str], int]:
        return {(state, version or ""): count for state, version, count in self._run(st.COUNT_AGENTS)}
