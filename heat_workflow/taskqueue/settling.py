# SPDX-License-Identifier: Apache-2.0
"""Settling: what a task's move means for the tasks and the workflow around it, in the same transaction."""

from __future__ import annotations

import dataclasses

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx


def route_key(project_id: str, route: str) -> str:
    """The wake-up key of agents that may take work of this route."""
    return f"route:{project_id}:{route}"


def move(tx: Tx, before: Task, after: Task) -> Task:
    """Record the move with its event and carry its consequences; Conflict if somebody else moved the task."""
    if after.finished:
        # Successors count down under the workflow's lock: two last requirements that finish at once both count.
        tx.lock_workflow(before.project_id, before.workflow_id)
    if not tx.save_task(before, after):
        raise errors.Conflict(f"task {before.name} ({before.id}) was changed meanwhile; read it again", code="raced")
    if after.state is not before.state:
        announce(tx, after)
    if after.finished:
        _unlock(tx, after)
        end_if_done(tx, after.project_id, after.workflow_id)
    return after


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
    if task.state is TaskState.CANCELLING:
        tx.wake(f"agent:{task.agent_id}")


def wake_takers(tx: Tx, task: Task) -> None:
    """Tell the agents that may take the ready task."""
    tx.wake(route_key(task.project_id, task.route))


def readied(tx: Tx, task: Task) -> Task:
    """The task as it becomes ready; one that nobody has to run succeeds at once (Heat::Ungrouped)."""
    ready = lifecycle.moved(task, TaskState.READY, tx.now)
    return lifecycle.moved(ready, TaskState.SUCCEEDED, tx.now) if task.spec.get("recorded_only") else ready


def _unlock(tx: Tx, finished: Task) -> None:
    outcome = lifecycle.requirement_outcome(finished.state)
    for task in tx.dependants_of(finished.id):
        if task.state is not TaskState.WAITING:
            continue
        if outcome is False:
            reason = f"requirement {finished.name} ({finished.id}) is {finished.state.value}"
            move(tx, task, lifecycle.moved(task, TaskState.SKIPPED, tx.now, status_reason=reason))
            continue
        counted = lifecycle.with_due(dataclasses.replace(task, pending=task.pending - 1))
        waits = counted.pending > 0 or (counted.not_before or 0) > tx.now
        move(tx, task, counted if waits else readied(tx, counted))


def end_if_done(tx: Tx, project_id: str, workflow_id: str) -> None:
    """Once no task is unfinished: a sealed workflow gets its final state, an open one goes back to active (G9)."""
    workflow = tx.find_workflow(project_id, workflow_id)
    if workflow is None or tx.has_unfinished(workflow.id) or workflow.state in model.WORKFLOW_FINISHED:
        return
    if workflow.sealed:
        undoing = workflow.state is model.WorkflowState.UNDOING
        state = lifecycle.sealed_outcome((model.TaskState(s) for s in tx.count_tasks(workflow.id)), undoing)
        if state is not None:
            end_workflow(tx, workflow, state)
    elif workflow.state in (model.WorkflowState.CANCELLING, model.WorkflowState.UNDOING):
        tx.save_workflow(dataclasses.replace(workflow, state=model.WorkflowState.ACTIVE))
        tx.add_event(workflow.id, "workflow-active", None, {})


def end_workflow(tx: Tx, workflow: model.Workflow, state: model.WorkflowState) -> None:
    tx.save_workflow(dataclasses.replace(workflow, state=state, finished_at=tx.now))
    tx.add_event(workflow.id, f"workflow-{state.value}", None, {})
