# SPDX-License-Identifier: Apache-2.0
"""Settling: what a task's move means for the tasks and the workflow around it, in the same transaction."""

from __future__ import annotations

import dataclasses

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, batches, undoing


def move(tx: Tx, before: Task, after: Task) -> Task:
    """Record the move with its event and carry its consequences; Conflict if somebody else moved the task."""
    if after.finished:
        # Successors count down under the workflow's lock: two last requirements that finish at once both count.
        tx.lock_workflow(before.project_id, before.workflow_id)
    if not tx.save_task(before, after):
        raise errors.Conflict(f"task {before.name} ({before.id}) was changed meanwhile; read it again", code="raced")
    failpoint("settle.moved")
    if after.state is before.state:
        return after
    announcing.announce(tx, after)
    if before.state in model.HELD and after.state not in model.HELD:
        _free_key(tx, after)
    if after.finished:
        failpoint("settle.announced")
        _finish(tx, after)
    return after


def _finish(tx: Tx, task: Task) -> None:
    """What the end of a task brings about: secrets go, successors and the next batch come, the workflow may end."""
    if task.spec.get("hidden_inputs"):
        tx.erase(task, "input")
    if task.undo_of is not None and task.state is TaskState.SUCCEEDED:
        undone = tx.find_task(task.project_id, task.undo_of)
        if undone is not None and undone.state is TaskState.SUCCEEDED:
            move(tx, undone, lifecycle.moved(undone, TaskState.UNDONE, tx.now))
    _unlock(tx, task)
    failpoint("settle.unlocked")
    if task.batch is not None:
        _turn(tx, task)
        failpoint("settle.turned")
    end_if_done(tx, task.project_id, task.workflow_id)
    failpoint("settle.ended")


def _free_key(tx: Tx, task: Task) -> None:
    if task.concurrency_key is None:
        return
    tx.drop_key(task)
    for waiting in tx.ready_with_key(task.project_id, task.concurrency_key, 1):
        announcing.wake_takers(tx, waiting)


def _turn(tx: Tx, task: Task) -> None:
    """After the last task of a batch: the next one's turn, or its end if too many failed."""
    assert task.fanout is not None
    assert task.batch is not None
    if tx.batch_unfinished(task.workflow_id, task.fanout, task.batch):
        return
    failed = batches.failures(tx.count_fanout(task.workflow_id, task.fanout))
    most = batches.max_errors(task.spec)
    for member in tx.list_fanout(task.workflow_id, task.fanout, task.batch + 1):
        if member.state is not TaskState.WAITING:
            continue
        if failed > most:
            reason = f"{failed} of {task.fanout} failed, more than max_errors {most}: no new batch starts"
            move(tx, member, lifecycle.moved(member, TaskState.SKIPPED, tx.now, status_reason=reason))
            continue
        paused = dataclasses.replace(member, not_before=tx.now + batches.pause(task.spec))
        _count_down(tx, member, paused if paused.not_before != tx.now else member)


def _count_down(tx: Tx, before: Task, task: Task) -> None:
    """One thing less to wait for; ready once it was the last and no delay is left."""
    counted = lifecycle.with_due(dataclasses.replace(task, pending=task.pending - 1))
    waits = counted.pending > 0 or (counted.not_before or 0) > tx.now
    move(tx, before, counted if waits else announcing.readied(tx, counted))


def _unlock(tx: Tx, finished: Task) -> None:
    for task in tx.dependants_of(finished.id):
        if task.state is not TaskState.WAITING:
            continue
        if _lets_run(tx, finished, task):
            _count_down(tx, task, task)
        else:
            reason = f"requirement {finished.name} ({finished.id}) is {finished.state.value}"
            move(tx, task, lifecycle.moved(task, TaskState.SKIPPED, tx.now, status_reason=reason))


def _lets_run(tx: Tx, finished: Task, task: Task) -> bool:
    """Whether the finished requirement counts as met: it succeeded, its failure is within its fan-out's tolerance,
    or the task (an undo) goes on whatever became of the others."""
    if task.undo_of is not None or lifecycle.requirement_outcome(finished.state):
        return True
    most = batches.max_errors(finished.spec)
    if finished.fanout is None or most == 0:
        return False
    return batches.failures(tx.count_fanout(finished.workflow_id, finished.fanout)) <= most


def end_if_done(tx: Tx, project_id: str, workflow_id: str) -> None:
    """Once no task is unfinished: a sealed workflow gets its final state, an open one goes back to active (G9)."""
    workflow = tx.find_workflow(project_id, workflow_id)
    if workflow is None or tx.has_unfinished(workflow.id) or workflow.state in model.WORKFLOW_FINISHED:
        return
    taking_back = workflow.state is model.WorkflowState.UNDOING
    if not workflow.sealed:
        if taking_back or workflow.state is model.WorkflowState.CANCELLING:
            tx.save_workflow(dataclasses.replace(workflow, state=model.WorkflowState.ACTIVE))
            tx.add_event(workflow.id, "workflow-active", None, {})
        return
    counts = {model.TaskState(state): count for state, count in tx.count_tasks(workflow.id).items()}
    state = lifecycle.sealed_outcome(counts)
    if taking_back:
        end_workflow(tx, workflow, _undo_outcome(tx, workflow))
    elif state is not None and not _takes_back(tx, workflow, state):
        end_workflow(tx, workflow, state)


def _takes_back(tx: Tx, workflow: model.Workflow, state: model.WorkflowState) -> bool:
    """Whether the failed workflow now undoes what succeeded: its author wants that, and there is something to undo."""
    wanted = state is model.WorkflowState.FAILED and workflow.on_failure == "undo"
    return wanted and undoing.begin(tx, workflow)


def _undo_outcome(tx: Tx, workflow: model.Workflow) -> model.WorkflowState:
    undos = [task for task in tx.list_tasks(workflow.id) if task.undo_of is not None]
    clean = all(task.state is TaskState.SUCCEEDED for task in undos)
    return model.WorkflowState.UNDONE if clean else model.WorkflowState.FAILED


def end_workflow(tx: Tx, workflow: model.Workflow, state: model.WorkflowState) -> None:
    tx.save_workflow(dataclasses.replace(workflow, state=state, finished_at=tx.now))
    tx.add_event(workflow.id, f"workflow-{state.value}", None, {})
