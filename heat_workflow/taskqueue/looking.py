# SPDX-License-Identifier: Apache-2.0
"""Looking: tasks with what belongs to them, and in words what holds those that do not run."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from heat_workflow import model
from heat_workflow.model import Agent, AgentState, Task, TaskState, WorkflowState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import cancelling, workflows

T = TypeVar("T")
_BATCH_FIRST = 8
_BATCH_MOST = 256


@dataclasses.dataclass(frozen=True)
class Details:
    """A task with its definition, its present attempt and what it waits for."""

    task: Task
    definition: Mapping[str, Any] | None
    attempt: model.Attempt | None
    waiting_for: str | None


def task_details(tx: Tx, project_id: str, workflow_id: str, task_id: str, reveal: bool = False) -> Details:
    """One task with everything, with ``reveal`` hidden outputs too; NotFound if the workflow has no such task."""
    task = cancelling.get_task(tx, project_id, workflow_id, task_id)
    details = details_of(tx, [task], definitions=True)[0]
    if not reveal or details.attempt is None:
        return details
    outputs = {**details.attempt.outputs, **tx.unseal(task, "output")}
    return dataclasses.replace(details, attempt=dataclasses.replace(details.attempt, outputs=outputs))


def each_details(
    tx: Tx, project_id: str, workflow_id: str, state: str | None, marker: str | None, fanout: str | None = None
) -> Iterator[Details]:
    """A workflow's tasks after the marker in the order they were added, without their definitions; with ``fanout`` of
    the fan-out of that name: every run of its members that still has its owner."""
    workflows.get_workflow(tx, project_id, workflow_id)
    onlooker = Onlooker(tx)

    def read(after: str | None, count: int) -> list[Task]:
        return tx.list_tasks(workflow_id, state=state, marker=after, limit=count)

    for tasks in in_batches(read, marker, lambda task: task.id):
        yield from _details(tx, [t for t in tasks if fanout is None or _is_member(t, fanout)], onlooker)


def _is_member(task: Task, fanout: str) -> bool:
    return task.fanout == fanout and not task.detached


def in_batches(
    read: Callable[[str | None, int], Sequence[T]], marker: str | None, id_of: Callable[[T], str]
) -> Iterator[Sequence[T]]:
    """Everything after the marker, a few at first, since each may be large; ``read`` gives the first so many."""
    count = _BATCH_FIRST
    while found := read(marker, count):
        yield found
        if len(found) < count:
            return
        marker, count = id_of(found[-1]), min(2 * count, _BATCH_MOST)


def fanout_unfinished(tx: Tx, project_id: str, workflow_id: str, fanout: str) -> bool:
    """Whether a member of the fan-out is still to come to its end."""
    workflows.get_workflow(tx, project_id, workflow_id)
    return bool({TaskState(state) for state in tx.count_fanout(workflow_id, fanout)} & model.UNFINISHED)


def details_of(tx: Tx, tasks: Sequence[Task], *, definitions: bool) -> list[Details]:
    return _details(tx, tasks, Onlooker(tx), definitions=definitions)


def _details(tx: Tx, tasks: Sequence[Task], onlooker: Onlooker, *, definitions: bool = False) -> list[Details]:
    attempts = tx.last_attempts(tasks)
    return [
        Details(
            task,
            tx.get_definition(task.project_id, task.definition_id) if definitions else None,
            attempts.get(task.id),
            onlooker.waiting_for(task),
        )
        for task in tasks
    ]


class Onlooker:
    """Says what tasks wait for; what many of them have in common it reads once."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._workflows: dict[str, model.Workflow | None] = {}
        self._able: dict[tuple[str, ...], str] = {}

    def waiting_for(self, task: Task) -> str | None:
        """What holds a task that is not running, for a person who wonders; None if nothing does."""
        if task.state is TaskState.WAITING:
            return self._waiting(task)
        if task.state is TaskState.READY:
            return self._ready(task)
        if task.state in (TaskState.STALLED, TaskState.CANCELLING):
            agent = self._tx.find_agent(task.agent_id or "")
            word = "to come back" if task.state is TaskState.STALLED else "to confirm the cancel"
            return f"agent {_named(agent)} {word}; {_contact(self._tx, agent)}"
        return None

    def _waiting(self, task: Task) -> str:
        unfinished = [other for other in self._tx.requirements_of(task.id) if other.state is not TaskState.SUCCEEDED]
        if unfinished:
            shown = ", ".join(f"{other.name} ({other.state.value})" for other in unfinished[:5])
            more = f" and {len(unfinished) - 5} more" if len(unfinished) > 5 else ""
            return f"task {shown}{more}"
        if task.batch and task.pending:
            return f"the turn of batch {task.batch + 1} of {task.fanout}"
        if task.not_before is not None:
            return f"the delay before attempt {task.attempt + 1}, until {_when(task.not_before)}"
        return "its turn"

    def _ready(self, task: Task) -> str:
        if task.workflow_id not in self._workflows:
            self._workflows[task.workflow_id] = self._tx.find_workflow(task.project_id, task.workflow_id)
        workflow = self._workflows[task.workflow_id]
        if workflow is not None and workflow.state is WorkflowState.PAUSED:
            return f"workflow {workflow.id} to be resumed: it is paused"
        key = task.concurrency_key
        holder = None if key is None else self._tx.key_holder(task.project_id, key)
        if holder is not None:
            return f"the lock {key}: task {holder} with this concurrency_key is running"
        wanted = (task.project_id, *task.capabilities)
        if wanted not in self._able:
            self._able[wanted] = self._agent_for(task)
        return self._able[wanted]

    def _agent_for(self, task: Task) -> str:
        wanted = ", ".join(task.capabilities) or "any"
        best = self._tx.find_able_agent(task.project_id, task.capabilities)
        if best is None:
            return self._nobody(task)
        return f"agent {_named(best)} (capability {wanted}); {_contact(self._tx, best)}"

    def _nobody(self, task: Task) -> str:
        """Which capability is missing: of several perhaps one, or each has its agent and none has all."""

        def lacks(capability: str) -> bool:
            return self._tx.find_able_agent(task.project_id, [capability]) is None

        missing = [capability for capability in task.capabilities if lacks(capability)]
        if not task.capabilities:
            return "an agent: this project has none"
        if missing:
            return f"capability {', '.join(missing)}: no agent of this project has it"
        return f"capabilities {', '.join(task.capabilities)}: no agent of this project has all of them"


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
