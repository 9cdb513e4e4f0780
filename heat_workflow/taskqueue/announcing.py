# SPDX-License-Identifier: Apache-2.0
"""Announcing: the event of a task's new state, and the wake-up of those who wait for it."""

from __future__ import annotations

from heat_workflow import lifecycle, model
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx


def route_key(project_id: str, route: str) -> str:
    """The wake-up key of agents that may take work of this route."""
    return f"route:{project_id}:{route}"


def announce(tx: Tx, task: Task) -> None:
    """The event of the state a task has come to, and the wake-up of those who wait for that."""
    body: dict[str, model.Json] = {"name": task.name, "state": task.state.value}
    if task.status_reason:
        body["reason"] = task.status_reason
    if task.attempt:
        body["attempt"] = task.attempt
    if task.state in model.HELD:
        body["agent_id"] = task.agent_id
    tx.add_event(task.workflow_id, f"task-{task.state.value}", task, body)
    if task.state is TaskState.READY:
        wake_takers(tx, task)
    if task.state in (TaskState.CANCELLING, TaskState.STALLED):
        tx.wake(f"agent:{task.agent_id}")


def wake_takers(tx: Tx, task: Task) -> None:
    """Tell the agents that may take the ready task."""
    tx.wake(route_key(task.project_id, task.route))


def readied(tx: Tx, task: Task) -> Task:
    """The task as it becomes ready; one that nobody has to run succeeds at once (Heat::Ungrouped)."""
    ready = lifecycle.moved(task, TaskState.READY, tx.now)
    return lifecycle.moved(ready, TaskState.SUCCEEDED, tx.now) if task.spec.get("recorded_only") else ready
