# SPDX-License-Identifier: Apache-2.0
"""Cancelling: no later claim at once, a running hook ended at its agent's next contact (G8)."""

from __future__ import annotations

import dataclasses

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Task, TaskState, Workflow
from heat_workflow.store import Tx
from heat_workflow.taskqueue import holding, settling


def get_task(tx: Tx, project_id: str, workflow_id: str, task_id: str) -> Task:
    """The task, else NotFound: unknown and foreign look the same (R3)."""
    task = tx.find_task(project_id, task_id)
    if task is None or task.workflow_id != workflow_id:
        raise task_not_found(workflow_id, task_id)
    return task


def task_not_found(workflow_id: str, task_id: str) -> errors.NotFound:
    return errors.NotFound(f"task {task_id} is not known in workflow {workflow_id}", code="task-not-found")


def cancel_task(tx: Tx, project_id: str, workflow_id: str, task_id: str, reason: str = "cancelled") -> Task:
    """The task after the cancel: ``cancelled``, ``cancelling`` while its agent is told, or finished as it was."""
    tx.lock_workflow(project_id, workflow_id)
    failpoint("cancel.locked")
    task = get_task(tx, project_id, workflow_id, task_id)
    after = lifecycle.cancel_requested(task, tx.now, reason)
    if after is task:
        return task
    if task.state is TaskState.READY:
        hold = holding.Onlooker(tx).hold(task)
        after = model.changed(after, status_reason=holding.reason_with(f"{reason} while ready", hold))
    failpoint("cancel.decided")
    moved = settling.move(tx, task, after)
    failpoint("cancel.moved")
    return moved


def detach_task(tx: Tx, project_id: str, workflow_id: str, task_id: str) -> None:
    """Cancel the task and give it up: it stays as history. The last one to go closes an open workflow."""
    task = cancel_task(tx, project_id, workflow_id, task_id, "its owner deleted it")
    if not task.detached:
        settling.move(tx, task, dataclasses.replace(task, detached=True))
    workflow = tx.find_workflow(project_id, workflow_id)
    if workflow is None or workflow.sealed or workflow.state in model.WORKFLOW_FINISHED:
        return
    if not tx.has_attached(workflow_id):
        settling.end_workflow(tx, workflow, model.WorkflowState.CLOSED)


def cancel_all(tx: Tx, workflow: Workflow, reason: str, *, undos_too: bool = True) -> None:
    """Cancel every unfinished task of a locked workflow, those that others wait for last: none is skipped instead."""
    listed = [t for t in tx.list_tasks(workflow.id) if not t.finished and (undos_too or t.undo_of is None)]
    for task in reversed(listed):
        present = tx.find_task(workflow.project_id, task.id)
        after = task if present is None else lifecycle.cancel_requested(present, tx.now, reason)
        if present is not None and after is not present:
            settling.move(tx, present, after)
