# SPDX-License-Identifier: Apache-2.0
"""Claiming: an agent takes the task its capabilities entitle it to, one lease at a time (G3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Agent, AgentState, Json, Task
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, reporting, requirements, sessions

_FIRST_LOOK = 1  # candidates per route looked at first: nearly always that one fits
_PAGE = 50  # and from then on


@dataclasses.dataclass(frozen=True)
class Claimed:
    """A task as its lease holder gets it: with its definition and its inputs resolved."""

    task: Task
    definition: Mapping[str, Any]
    input_values: Mapping[str, Json]
    deadline_in: float | None  # seconds left by our clock: the guest's decides nothing


def has_work(tx: Tx, agent_id: str, claim_id: str, place: str | None = None, bare: bool = False) -> bool:
    """Whether a claim would give something or say something. Reads only, so that an idle poll costs no write."""
    agent = tx.find_agent(agent_id)
    if agent is None or agent.state is AgentState.REVOKED or (bare and sessions.claims_with_nonce(agent)):
        return True
    if _polls_elsewhere(agent, place) or tx.find_claim(agent.id, claim_id) is not None:
        return True
    return agent.may_take and (next(_candidates(tx, agent), None) is not None or bool(tx.stalled_tasks(agent.id)))


def keys_with_ready(tx: Tx, agent: Agent, keys: Collection[str]) -> set[str]:
    """Those of the wake-up keys under which a task is ready, for this agent or for another."""
    routes = {announcing.route_key(agent.project_id, route): route for route in agent.routes}
    return {key for key in keys if key in routes and tx.find_ready(agent.project_id, routes[key], 1, 0)}


def poll_at(tx: Tx, agent_id: str, place: str) -> None:
    """Note at which replica the agent polls from now on; a poll that it left waiting at another one is over."""
    tx.save_polls_at(agent_id, place)
    tx.wake(f"agent:{agent_id}")


def superseded() -> errors.Conflict:
    return errors.Conflict("a newer claim of this agent took the place of this one", code="superseded")


def _polls_elsewhere(agent: Agent, place: str | None) -> bool:
    return place is not None and agent.polls_at != place


def claim(tx: Tx, agent_id: str, claim_id: str, place: str | None = None, bare: bool = False) -> Claimed | None:
    """The next task for the agent, None if there is none for it now.

    ``place`` is the replica where the claim waited: Conflict (superseded) if the agent polls at another one by now.
    ``bare`` is one that came without a nonce: Conflict (identity-in-use) if the session has shown its own by now.

    Repeated with the same ``claim_id`` it returns the same task and attempt, so a lost answer costs nothing; Conflict
    once that attempt is over.
    """
    agent = tx.find_agent(agent_id)
    if agent is None or agent.state is AgentState.REVOKED:
        raise errors.Gone(f"agent {agent_id} was revoked", code="revoked")
    if bare and sessions.claims_with_nonce(agent):
        raise sessions.identity_in_use(agent_id)
    again = tx.find_claim(agent.id, claim_id)
    if again is not None:
        return _same_again(tx, again)
    if _polls_elsewhere(agent, place):
        raise superseded()
    if not agent.may_take:
        return None
    for task in _candidates(tx, agent):
        if not tx.lock_to_claim(task):
            continue
        if task.concurrency_key is not None and not tx.take_key(task):
            continue
        failpoint("claim.chosen")
        after = lifecycle.claimed(task, agent.id, model.ClaimId(claim_id), tx.now)
        if not tx.save_task(task, after):
            if task.concurrency_key is not None:
                tx.drop_key(task)
            continue
        failpoint("claim.leased")
        tx.insert_attempt(model.Attempt.begun(after, tx.now))
        failpoint("claim.recorded")
        announcing.announce(tx, after)
        claimed = _delivery(tx, after)
        failpoint("claim.resolved")
        return claimed
    return _once_more(tx, agent)


def _once_more(tx: Tx, agent: Agent) -> Claimed | None:
    """A stalled task of the agent, under the attempt and the claim that it has already.

    An agent that asks for work does not know of it, or forgot it: the answer was lost, or the store went back to a
    time before its report. Its journal says whether the attempt was started: then its result is sent again (G15).
    """
    for task in tx.stalled_tasks(agent.id):
        again = lifecycle.extended(task, tx.now)
        if tx.lock_to_claim(task) and tx.save_task(task, again):
            announcing.announce(tx, again)
            return _delivery(tx, again)
    return None


def report_and_claim(
    tx: Tx, agent_id: str, task_id: str, said: model.Report, claim_id: str
) -> tuple[Task, Claimed | None]:
    """The outcome of one task and the lease of the next in one transaction: one durable commit for a whole turn.

    A claim that is refused does not take the report back.
    """
    task = reporting.report(tx, agent_id, task_id, said)
    failpoint("report.claims")
    try:
        return task, claim(tx, agent_id, claim_id)
    except (errors.Conflict, errors.Gone):
        return task, None


def _same_again(tx: Tx, attempt: model.Attempt) -> Claimed:
    task = tx.find_task_any_project(attempt.task_id)
    if task is None or task.claim_id != attempt.claim_id or task.state not in model.HELD:
        raise errors.Conflict(f"claim {attempt.claim_id} is over; claim with a new claim_id", code="claim-over")
    return _delivery(tx, task)


def _candidates(tx: Tx, agent: Agent) -> Iterator[Task]:
    """Ready tasks the agent may take, the most urgent of each page first.

    While others claim, what is left moves up, from one page onto another that was looked at before. So it looks again
    from the beginning until it has seen nothing new.
    """
    granted = set(agent.capabilities)
    seen: set[str] = set()
    news = False
    offset, size = 0, _FIRST_LOOK
    while True:
        pages = [tx.find_ready(agent.project_id, route, size, offset) for route in agent.routes]
        fresh = [task for page in pages for task in page if task.id not in seen]
        seen.update(task.id for task in fresh)
        for task in sorted(fresh, key=lambda t: (-t.priority, t.ready_at or 0, t.seq)):
            if granted.issuperset(task.capabilities) and _key_free(tx, task):
                yield task
        news = news or bool(fresh)
        if size == _FIRST_LOOK and news:
            offset, size = 0, _PAGE
        elif any(len(page) == size for page in pages):
            offset += size
        elif news:
            offset, news = 0, False
        else:
            return


def _key_free(tx: Tx, task: Task) -> bool:
    return task.concurrency_key is None or tx.key_holder(task.project_id, task.concurrency_key) is None


def _delivery(tx: Tx, task: Task) -> Claimed:
    left = None if task.deadline_at is None else max(task.deadline_at - tx.now, 0.0)
    return Claimed(task, tx.get_definition(task.project_id, task.definition_id), resolved_inputs(tx, task), left)


def resolved_inputs(tx: Tx, task: Task) -> dict[str, Json]:
    """The input values, each ``get_output`` replaced by the value its source task reported.

    A source that is a fan-out gives a map by server name; an output that was not set is null. Values are copied as
    JSON, never evaluated (R5).
    """
    values = task.spec.get("input_values")
    inputs: dict[str, Json] = dict(values) if isinstance(values, dict) else {}
    if task.spec.get("hidden_inputs"):
        inputs |= tx.unseal(task, "input")
    late, _ = requirements.late_values(tx, task)
    return {**inputs, **late}
