# SPDX-License-Identifier: Apache-2.0
"""Agents, operator side: register, change, revoke, and what their inventory shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Agent, AgentState, Json, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import building, credentials, settling

JOIN_TTL = 3600.0  # seconds a join token is good for: a slow VM boot
JOIN_TTL_MOST = 86400.0


@dataclasses.dataclass(frozen=True)
class NewAgent:
    """What an operator asks for when registering an agent."""

    name: str
    capabilities: Sequence[str]
    server: str | None
    heat: Mapping[str, Json] | None
    join_ttl: float | None

    @property
    def granted(self) -> list[str]:
        return sorted({*self.capabilities, *([f"server={self.server}"] if self.server else [])})


def get_agent(tx: Tx, project_id: str, agent_id: str) -> Agent:
    """The agent, else NotFound: unknown, foreign and revoked ones look the same (R3)."""
    agent = tx.find_agent(agent_id)
    if agent is None or agent.project_id != project_id or agent.state is AgentState.REVOKED:
        raise not_found(agent_id)
    return agent


def find_any_state(tx: Tx, project_id: str, agent_id: str) -> Agent:
    """The agent, revoked ones too: their history outlives them."""
    agent = tx.find_agent(agent_id)
    if agent is None or agent.project_id != project_id:
        raise not_found(agent_id)
    return agent


def not_found(agent_id: str) -> errors.NotFound:
    return errors.NotFound(f"agent {agent_id} is not known in this project", code="agent-not-found")


def register_agent(tx: Tx, project_id: str, agent_id: str, asked: NewAgent) -> tuple[Agent, str | None, bool]:
    """The agent, its join token and whether it is new.

    Repeated while nobody has enrolled, it makes a new token and kills the old one; afterwards the token is None.
    Conflict for another content, and for the id of a revoked agent: ids are never used again. NotFound for the id of
    another project's agent.
    """
    mark = building.digest([asked.name, asked.granted, asked.server, asked.heat])
    known = tx.lock_agent(agent_id)
    if known is None:
        return _insert_agent(tx, project_id, agent_id, asked, mark)
    if known.project_id != project_id:
        raise not_found(agent_id)
    if known.state is AgentState.REVOKED or known.fingerprint != mark:
        raise errors.Conflict(
            f"agent id {agent_id} is in use or was revoked; register under a new id, or PATCH to change it",
            code="id-in-use",
        )
    if known.join_used_at is not None:
        return known, None, False
    return *_with_new_token(tx, known, asked.join_ttl), False


def _insert_agent(tx: Tx, project_id: str, agent_id: str, asked: NewAgent, mark: str) -> tuple[Agent, str | None, bool]:
    token, join_hash = credentials.new_join_token(agent_id)
    agent = Agent(
        id=model.AgentId(agent_id),
        project_id=model.ProjectId(project_id),
        name=asked.name,
        server=asked.server,
        capabilities=asked.granted,
        heat=asked.heat,
        state=AgentState.PENDING,
        draining=False,
        fingerprint=mark,
        join_hash=join_hash,
        join_expires_at=tx.now + _ttl(asked.join_ttl),
        join_used_at=None,
        join_used_by=None,
        cred_hash=None,
        cred_gen=0,
        cred_made_at=None,
        next_hash=None,
        prev_hash=None,
        prev_until=None,
        old_hashes=[],
        nonce=None,
        hw_uuid=None,
        version=None,
        inventory={},
        polls_at=None,
        created_at=tx.now,
        last_seen_at=None,
        revoked_at=None,
    )
    _supersede(tx, agent)
    if not tx.insert_agent(agent):
        raise errors.Conflict(f"agent id {agent_id} is in use; register under a new id", code="id-in-use")
    tx.insert_agent_event(agent, "registered", {"name": agent.name})
    return agent, token, True


def _ttl(asked: float | None) -> float:
    return min(JOIN_TTL if asked is None else asked, JOIN_TTL_MOST)


def _with_new_token(tx: Tx, agent: Agent, ttl: float | None) -> tuple[Agent, str]:
    token, join_hash = credentials.new_join_token(agent.id)
    renewed = dataclasses.replace(agent, join_hash=join_hash, join_expires_at=tx.now + _ttl(ttl))
    tx.save_agent(renewed)
    return renewed, token


def _supersede(tx: Tx, agent: Agent) -> None:
    """At most one living agent per server: a later registration takes the place of the earlier."""
    if agent.server is None:
        return
    for other in tx.list_agents(agent.project_id, {"server": agent.server}, None, 1000):
        if other.id != agent.id and other.state is not AgentState.REVOKED:
            _revoke(tx, other, f"superseded by agent {agent.id}")


def rejoin_agent(tx: Tx, project_id: str, agent_id: str, join_ttl: float | None = None) -> tuple[Agent, str]:
    """A new join token for an agent whose disk is gone; its old credential is revoked, ``suspect`` is cleared."""
    agent = _locked(tx, project_id, agent_id)
    fresh = dataclasses.replace(
        agent,
        state=AgentState.PENDING,
        join_used_at=None,
        join_used_by=None,
        cred_hash=None,
        next_hash=None,
        prev_hash=None,
        old_hashes=[],
        nonce=None,
        hw_uuid=None,
    )
    tx.insert_agent_event(agent, "rejoin", {})
    tx.wake(f"agent:{agent.id}")
    return _with_new_token(tx, fresh, join_ttl)


def change_agent(
    tx: Tx,
    project_id: str,
    agent_id: str,
    name: str | None,
    capabilities: Sequence[str] | None,
    server: str | None,
) -> Agent:
    """Grant other capabilities, bind the server; None leaves a field as it is."""
    agent = _locked(tx, project_id, agent_id)
    server = agent.server if server is None else server
    granted = agent.capabilities if capabilities is None else capabilities
    own = [capability for capability in granted if not (agent.server and capability == f"server={agent.server}")]
    changed = dataclasses.replace(
        agent,
        name=agent.name if name is None else name,
        server=server,
        capabilities=sorted({*own, *([f"server={server}"] if server else [])}),
    )
    if changed.server != agent.server:
        _supersede(tx, changed)
    tx.save_agent(changed)
    tx.insert_agent_event(agent, "changed", {"capabilities": list(changed.capabilities)})
    tx.wake(f"agent:{agent.id}")
    return changed


def quarantine_agent(tx: Tx, project_id: str, agent_id: str) -> Agent:
    """Give the agent nothing and hear nothing from it, but let the guest keep what it has: evidence."""
    agent = _locked(tx, project_id, agent_id)
    changed = dataclasses.replace(agent, state=AgentState.SUSPECT)
    tx.save_agent(changed)
    tx.insert_agent_event(agent, "quarantined", {})
    tx.wake(f"agent:{agent.id}")
    return changed


def drain_agent(tx: Tx, project_id: str, agent_id: str, draining: bool) -> Agent:
    """Give the agent no new work (or work again); what it runs goes on."""
    agent = _locked(tx, project_id, agent_id)
    changed = dataclasses.replace(agent, draining=draining)
    tx.save_agent(changed)
    tx.insert_agent_event(agent, "drain" if draining else "undrain", {})
    tx.wake(f"agent:{agent.id}")
    return changed


def revoke_agent(tx: Tx, project_id: str, agent_id: str) -> None:
    """Take the agent's credential away for good, from its next request on (G25). Repeated, it changes nothing."""
    agent = tx.lock_agent(agent_id)
    if agent is None or agent.project_id != project_id:
        raise not_found(agent_id)
    if agent.state is not AgentState.REVOKED:
        _revoke(tx, agent, "revoked by its owner")


def _revoke(tx: Tx, agent: Agent, reason: str) -> None:
    tx.save_agent(
        dataclasses.replace(agent, state=AgentState.REVOKED, revoked_at=tx.now, join_hash=None, next_hash=None)
    )
    tx.insert_agent_event(agent, "revoked", {"reason": reason})
    tx.wake(f"agent:{agent.id}")
    held = tx.held_tasks(agent.id)
    settling.lock_workflows(tx, held)
    for task in held:
        to = TaskState.CANCELLED if task.state is TaskState.CANCELLING else TaskState.FAILED
        changes: dict[str, object] = {"status_reason": f"agent {agent.id} was revoked while it held the task"}
        if to is TaskState.CANCELLED:
            changes["confirmed"] = False
        settling.move(tx, task, lifecycle.moved(task, to, tx.now, **changes))


def _locked(tx: Tx, project_id: str, agent_id: str) -> Agent:
    agent = tx.lock_agent(agent_id)
    if agent is None or agent.project_id != project_id or agent.state is AgentState.REVOKED:
        raise not_found(agent_id)
    return agent
