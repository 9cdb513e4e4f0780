# SPDX-License-Identifier: Apache-2.0
"""Holding: in words, what holds a task that does not run, while it waits and after it waited in vain."""

from __future__ import annotations

import dataclasses
import datetime

from heat_workflow import model
from heat_workflow.model import Agent, AgentState, Task, TaskState, WorkflowState
from heat_workflow.store import Tx

_SHOWN = 5  # requirements that are named
_DEPTH = 50  # requirements of requirements that are followed to what holds the first of them
REASON_MOST = 1024  # characters of a status_reason


@dataclasses.dataclass(frozen=True)
class Hold:
    """What holds a task: ``waiting_for`` completes "it waits for", ``because`` is a sentence on why nothing came."""

    waiting_for: str
    because: str


def reason_with(reason: str, hold: Hold | None) -> str:
    """The reason for a task's end, with what held it until then."""
    return (reason if hold is None else f"{reason}: {hold.because}")[:REASON_MOST]


class Onlooker:
    """Says what holds tasks; what many of them have in common it reads once."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._workflows: dict[str, model.Workflow | None] = {}
        self._able: dict[tuple[str, ...], Hold] = {}

    def waiting_for(self, task: Task) -> str | None:
        """What a task that is not running waits for; None if nothing holds it."""
        hold = self.hold(task)
        return None if hold is None else hold.waiting_for

    def hold(self, task: Task, depth: int = 0) -> Hold | None:
        """The same for a task that waits, is ready or stalled, or has to confirm a cancel; None for all others."""
        if task.state is TaskState.WAITING:
            return self._waiting(task, depth)
        if task.state is TaskState.READY:
            return self._ready(task)
        if task.state in (TaskState.STALLED, TaskState.CANCELLING):
            agent = self._tx.find_agent(task.agent_id or "")
            word = "to come back" if task.state is TaskState.STALLED else "to confirm the cancel"
            contact = _contact(self._tx, agent)
            return Hold(f"agent {_named(agent)} {word}; {contact}", f"agent {_named(agent)}: {contact}")
        return None

    def _waiting(self, task: Task, depth: int) -> Hold:
        unfinished = [other for other in self._tx.requirements_of(task.id) if other.state is not TaskState.SUCCEEDED]
        if unfinished:
            return self._required(unfinished, depth)
        if task.batch and task.pending:
            return _waited(f"the turn of batch {task.batch + 1} of {task.fanout}")
        if task.not_before is not None:
            hold = _waited(f"the delay before attempt {task.attempt + 1}, until {_when(task.not_before)}")
            return dataclasses.replace(hold, because=f"{hold.because}; {task.status_reason}")
        return _waited("its turn")

    def _required(self, unfinished: list[Task], depth: int) -> Hold:
        """The requirements, and what holds the first of them: that is where a person has to look."""
        shown = ", ".join(f"{other.name} ({other.state.value})" for other in unfinished[:_SHOWN])
        more = f" and {len(unfinished) - _SHOWN} more" if len(unfinished) > _SHOWN else ""
        hold = _waited(f"task {shown}{more}")
        first = self.hold(unfinished[0], depth + 1) if depth < _DEPTH else None
        return hold if first is None else dataclasses.replace(hold, because=f"{hold.because}; {first.because}")

    def _ready(self, task: Task) -> Hold:
        if task.workflow_id not in self._workflows:
            self._workflows[task.workflow_id] = self._tx.find_workflow(task.project_id, task.workflow_id)
        workflow = self._workflows[task.workflow_id]
        if workflow is not None and workflow.state is WorkflowState.PAUSED:
            return Hold(f"workflow {workflow.id} to be resumed: it is paused", f"workflow {workflow.id} was paused")
        key = task.concurrency_key
        holder = None if key is None else self._tx.key_holder(task.project_id, key)
        if holder is not None:
            return _waited(f"the lock {key}: task {holder} with this concurrency_key is running")
        wanted = (task.project_id, *task.capabilities)
        if wanted not in self._able:
            self._able[wanted] = self._agent_for(task)
        return self._able[wanted]

    def _agent_for(self, task: Task) -> Hold:
        best = self._tx.find_able_agent(task.project_id, task.capabilities)
        if best is None:
            return self._nobody(task)
        wanted = ", ".join(task.capabilities) or "any"
        who, contact = f"agent {_named(best)} (capability {wanted})", _contact(self._tx, best)
        busy = _busy(self._tx.held_tasks(best.id))
        return Hold(f"{who}, {busy}; {contact}", f"{who} was {busy}; {contact}") if busy else _absent(who, contact)

    def _nobody(self, task: Task) -> Hold:
        """Which capability is missing: of several perhaps one, or each has its agent and none has all."""

        def lacks(capability: str) -> bool:
            return self._tx.find_able_agent(task.project_id, [capability]) is None

        missing = ", ".join(capability for capability in task.capabilities if lacks(capability))
        every = ", ".join(task.capabilities)
        if not every:
            return Hold("an agent: this project has none", "this project has no agent")
        if missing:
            because = f"no agent of this project has capability {missing}"
            return Hold(f"capability {missing}: no agent of this project has it", because)
        because = f"no agent of this project has all of the capabilities {every}"
        return Hold(f"capabilities {every}: no agent of this project has all of them", because)


def _waited(what: str) -> Hold:
    return Hold(what, f"it waited for {what}")


def _absent(who: str, contact: str) -> Hold:
    return Hold(f"{who}; {contact}", f"{who}: {contact}")


def _busy(held: list[Task]) -> str:
    """With what an agent is busy since when; empty if it holds nothing."""
    if not held:
        return ""
    first = min(held, key=lambda task: task.started_at or 0)
    more = f" and {len(held) - 1} more" if len(held) > 1 else ""
    return f"busy with task {first.name} ({first.id}) since {_when(first.started_at or 0)}{more}"


def _named(agent: Agent | None) -> str:
    return "unknown" if agent is None else f"{agent.name} {agent.id}"


def _contact(tx: Tx, agent: Agent | None) -> str:
    """When the agent was last heard of, or why it cannot be heard of at all."""
    if agent is None:
        return "it was deleted"
    if agent.state is AgentState.PENDING and agent.join_expires_at is not None:
        verb = "expired" if agent.join_expires_at <= tx.now else "expires"
        return f"never enrolled, its join token {verb} at {_when(agent.join_expires_at)}"
    if agent.state is AgentState.SUSPECT:
        return "it is suspect: its identity was used twice; rejoin it"
    if agent.draining:
        return "it is draining"
    if agent.last_seen_at is None:
        return "never seen"
    return f"last seen {_when(agent.last_seen_at)}, {max(tx.now - agent.last_seen_at, 0):.0f} s ago"


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
