# SPDX-License-Identifier: Apache-2.0
"""Rewinding: what an agent holds and the store has forgotten, because the store went back in time (G15).

A failover to a replica that missed the last commits, or a restored backup, leaves the database without leases that
agents have. Such a lease is given again, under its own attempt and claim, when its agent speaks of it.
"""

from __future__ import annotations

import dataclasses

from oslo_log import log

from heat_workflow import lifecycle, model
from heat_workflow.model import Agent, AgentState, Json, Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, auditing, settling

LOG = log.getLogger(__name__)
LOST_MOST = 100  # attempts of one task that may be forgotten: as many as a task may have


def remembered(tx: Tx, task: Task, agent_id: str, attempt: int, claim_id: str) -> Task:
    """The task with that lease given again, if it can only be one that the store has forgotten; else as it is.

    That is so for an attempt greater than the stored one, under a claim that was never seen, of a task that is not
    over and that this agent alone may run (its server's): it is ready, or held by the same agent under an earlier
    attempt. A task whose requirements are unfinished is not among them: order goes before thrift, it is run again.
    """
    agent = tx.find_agent(agent_id)
    if agent is None or attempt > task.attempt + LOST_MOST or not _its_own(task, agent):
        return task
    if tx.find_claim(agent_id, claim_id) is not None:
        return task
    key = task.concurrency_key
    if key is not None and tx.key_holder(task.project_id, key) not in (None, task.id):
        return task
    return _lease_again(tx, task, agent, attempt, model.ClaimId(claim_id))


def _its_own(task: Task, agent: Agent) -> bool:
    """Whether nobody but this agent can have taken the task."""
    pinned = any(capability.startswith("server=") for capability in task.capabilities)
    entitled = agent.state is AgentState.ACTIVE and set(task.capabilities) <= set(agent.capabilities)
    if task.project_id != agent.project_id or not (pinned and entitled):
        return False
    if task.state in model.HELD:
        return task.agent_id == agent.id
    return task.state is TaskState.READY or (task.state is TaskState.WAITING and task.pending == 0)


def _lease_again(tx: Tx, task: Task, agent: Agent, attempt: int, claim_id: model.ClaimId) -> Task:
    tx.lock_workflow(task.project_id, task.workflow_id)
    if task.concurrency_key is not None:
        tx.take_key(task)
    _close_earlier(tx, task)
    lost = attempt - task.attempt
    state = task.state if task.state is TaskState.CANCELLING else TaskState.LEASED
    leased = dataclasses.replace(
        task,
        state=state,
        attempt=attempt,
        attempts_left=max(task.attempts_left - lost, 0),
        agent_id=agent.id,
        claim_id=claim_id,
        ready_at=task.ready_at or tx.now,
        started_at=tx.now,
        not_before=None,
        lease_until=tx.now + model.LEASE,
        status_reason=task.status_reason if state is TaskState.CANCELLING else "",
    )
    leased = settling.move(tx, task, lifecycle.with_due(leased))
    if task.state is TaskState.LEASED:
        announcing.announce(tx, leased)
    tx.insert_attempt(model.Attempt.begun(leased, tx.now))
    if auditing.is_worth_a_row(tx, agent.id, "lease-remembered"):
        told: dict[str, Json] = {"task_id": task.id, "attempt": attempt, "stored": task.attempt}
        tx.insert_agent_event(agent, "lease-remembered", told)
    LOG.warning(
        "task %s: agent %s holds attempt %d and the store knew of %d only: the store went back in time",
        task.id,
        agent.id,
        attempt,
        task.attempt,
    )
    return leased


def _close_earlier(tx: Tx, task: Task) -> None:
    if task.state not in model.HELD:
        return
    earlier = tx.find_attempt(task.id, task.attempt)
    if earlier is not None and earlier.finished_at is None:
        reason = "its outcome was lost when the store went back in time"
        tx.save_attempt(dataclasses.replace(earlier, finished_at=tx.now, result="lost", reason=reason))
