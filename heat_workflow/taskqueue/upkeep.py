# SPDX-License-Identifier: Apache-2.0
"""Upkeep: what an operator does to the whole store: forget what has long been history, end every session."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from heat_workflow.model import Agent, AgentState
from heat_workflow.store import Tx

DAY = 86400.0
PAGE = 100


@dataclasses.dataclass(frozen=True)
class Purged:
    """What went, or would go."""

    workflows: int
    tombstones: int


def purge(tx: Tx, days: float, tombstone_days: float, limit: int = PAGE) -> Purged:
    """Remove workflows that ended ``days`` ago and agents revoked ``tombstone_days`` ago, ``limit`` of each at most.

    The caller repeats it, each time in a transaction of its own, until nothing more goes.
    """
    workflows = tx.list_ended(tx.now - days * DAY, limit)
    for listed in sorted(workflows, key=lambda workflow: workflow.id):  # the order in which everybody locks them (Q1)
        workflow = tx.lock_workflow(listed.project_id, listed.id)
        if workflow is not None and workflow.finished_at == listed.finished_at:  # else it was opened again just now
            tx.delete_workflow(workflow.id)
    tombstones = tx.list_tombstones(tx.now - tombstone_days * DAY, limit)
    for agent in tombstones:
        tx.delete_agent(agent.id)
    return Purged(len(workflows), len(tombstones))


def count_purgeable(tx: Tx, days: float, tombstone_days: float) -> Purged:
    """What ``purge`` would remove by now. Reads only."""
    everything = 10**9
    return Purged(
        len(tx.list_ended(tx.now - days * DAY, everything)),
        len(tx.list_tombstones(tx.now - tombstone_days * DAY, everything)),
    )


def purge_definitions(tx: Tx) -> int:
    """Remove definitions that no task has any more and return how many; the caller repeats it until none is left."""
    return tx.delete_unused_definitions(10 * PAGE)


def list_agents(tx: Tx, project_id: str | None) -> list[Agent]:
    """Every agent of the project, of all projects for None, that is not revoked."""
    return [agent for agent in _pages(tx, project_id) if agent.state is not AgentState.REVOKED]


def _pages(tx: Tx, project_id: str | None) -> Iterator[Agent]:
    marker = None
    while page := tx.list_agents(project_id, {}, marker, PAGE):
        yield from page
        marker = page[-1].id


def revoke_session(tx: Tx, agent_id: str) -> bool:
    """Make every secret of the agent worthless, its join token too; it stays and may join again (S62).

    Its present holder is told 401, not 410: an agent that wiped itself could not come back.
    """
    agent = tx.lock_agent(agent_id)
    if agent is None or agent.state is AgentState.REVOKED:
        return False
    locked_out = dataclasses.replace(
        agent,
        state=AgentState.PENDING,
        join_hash=None,
        join_used_at=None,
        join_used_by=None,
        cred_hash=None,
        next_hash=None,
        prev_hash=None,
        old_hashes=[],
        nonce=None,
    )
    tx.save_agent(locked_out)
    tx.insert_agent_event(agent, "session-revoked", {})
    tx.wake(f"agent:{agent.id}")
    return True
