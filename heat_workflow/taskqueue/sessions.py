# SPDX-License-Identifier: Apache-2.0
"""Sessions, agent side: enrol once with a join token, prove the credential at every call, say hello at each start."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Agent, AgentState, Json, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import credentials, settling

_THEFT_WINDOW = 900.0  # seconds after the first use in which a second key makes the agent suspect


def refused() -> errors.Unauthenticated:
    """One answer for every reason: a prober learns nothing."""
    return errors.Unauthenticated("the token is not valid here")


def enroll(
    tx: Tx, token: credentials.Token, credential_hash: str, hw_uuid: str | None, version: str | None
) -> tuple[Agent, bool]:
    """The agent and whether this call enrolled it; the same key again is the same answer (its reply was lost).

    Raises Unauthenticated for every refusal. A used token shown with another key within 15 minutes makes the agent
    suspect: thief and owner cannot be told apart, so neither gets work. ``find_refusal`` records that.
    """
    agent = tx.lock_agent(token.agent_id)
    if agent is None or not credentials.matches(token.secret_hash, agent.join_hash):
        raise refused()
    if agent.join_used_by == credential_hash and agent.state is not AgentState.REVOKED:
        return agent, False
    if agent.state is not AgentState.PENDING or agent.join_used_at is not None:
        raise refused()
    if agent.join_expires_at is None or agent.join_expires_at <= tx.now:
        raise refused()
    enrolled = dataclasses.replace(
        agent,
        state=AgentState.ACTIVE,
        join_used_at=tx.now,
        join_used_by=credential_hash,
        cred_hash=credential_hash,
        cred_gen=agent.cred_gen + 1,
        cred_made_at=tx.now,
        prev_hash=None,
        hw_uuid=hw_uuid,
        version=version,
        last_seen_at=tx.now,
    )
    tx.save_agent(enrolled)
    tx.insert_agent_event(enrolled, "enrolled", {"generation": enrolled.cred_gen})
    return enrolled, True


def record_refused_enroll(tx: Tx, token: credentials.Token, credential_hash: str) -> None:
    """Note a used join token shown with another key; soon after its first use it locks the agent (S14)."""
    agent = tx.lock_agent(token.agent_id)
    if agent is None or agent.join_used_at is None or agent.state is AgentState.REVOKED:
        return
    if not credentials.matches(token.secret_hash, agent.join_hash) or agent.join_used_by == credential_hash:
        return
    if agent.state is AgentState.ACTIVE and tx.now - agent.join_used_at <= _THEFT_WINDOW:
        tx.save_agent(dataclasses.replace(agent, state=AgentState.SUSPECT))
        tx.wake(f"agent:{agent.id}")
    tx.insert_agent_event(agent, "join-token-reused", {})


def authenticate(tx: Tx, token: credentials.Token) -> Agent:
    """The agent whose credential this is. Unauthenticated, or Gone for the holder of a revoked one. Reads only."""
    agent = tx.find_agent(token.agent_id)
    if not credentials.matches(token.secret_hash, agent.cred_hash if agent else None) or agent is None:
        raise refused()
    if agent.state is AgentState.REVOKED:
        raise errors.Gone(f"agent {agent.id} was revoked", code="revoked")
    if agent.state is not AgentState.ACTIVE:
        raise refused()
    return agent


def hello(
    tx: Tx,
    agent_id: str,
    nonce: str,
    version: str | None,
    inventory: Mapping[str, Json],
    journal: Collection[tuple[str, int]],
) -> Agent:
    """Open a session. Leases the agent's journal does not know were lost on the way to it and never started: they
    go back to the queue without costing an attempt."""
    agent = tx.lock_agent(agent_id)
    if agent is None or agent.state is AgentState.REVOKED:
        raise errors.Gone(f"agent {agent_id} was revoked", code="revoked")
    greeted = dataclasses.replace(
        agent, nonce=nonce, nonce_seen_at=tx.now, version=version, inventory=inventory, last_seen_at=tx.now
    )
    tx.save_agent(greeted)
    for task in tx.held_tasks(agent.id):
        if (task.id, task.attempt) not in journal:
            _give_back(tx, task)
    return greeted


def _give_back(tx: Tx, task: model.Task) -> None:
    attempt = tx.find_attempt(task.id, task.attempt)
    if attempt is not None:
        tx.save_attempt(
            dataclasses.replace(attempt, finished_at=tx.now, result="lost", reason="never reached the agent")
        )
    if task.state is TaskState.CANCELLING:
        settling.move(tx, task, lifecycle.moved(task, TaskState.CANCELLED, tx.now, confirmed=True))
        return
    waiting = lifecycle.moved(task, TaskState.WAITING, tx.now, attempts_left=task.attempts_left + 1, lease_until=None)
    settling.move(tx, task, settling.readied(tx, waiting))


def seen(tx: Tx, times: Mapping[str, float]) -> None:
    """Write down when agents were last heard of: many at once, as every poll of every agent counts."""
    tx.save_last_seen(times)
