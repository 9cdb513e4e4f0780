# SPDX-License-Identifier: Apache-2.0
"""Repeating: failed work run again with what depends on it, and succeeded work taken back, at an operator's word."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Sequence

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Task, TaskState, Workflow, WorkflowState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, cancelling, settling, undoing, workflows


def rerun_task(tx: Tx, project_id: str, workflow_id: str, task_id: str) -> Task:
    """Run a failed, timed out, cancelled or skipped task again, and what was skipped because of it.

    Conflict if it may not run: it did not fail, a requirement has not succeeded and is not under way, or its hidden
    inputs were erased when it ended.
    """
    workflow = workflows.lock_workflow(tx, project_id, workflow_id)
    task = cancelling.get_task(tx, project_id, workflow_id, task_id)
    if task.state not in model.RERUNNABLE:
        raise errors.Conflict(f"task {task.name} ({task.id}) is {task.state.value}; only unsuccessful tasks run again")
    hopeless = _hopeless(tx, task)
    if hopeless is not None:
        raise errors.Conflict(
            f"task {task.name} requires {hopeless.name} ({hopeless.id}), which is {hopeless.state.value}: "
            "rerun that one, or the workflow"
        )
    _reopen(tx, workflow)
    again = _again(tx, task)
    _rerun_skipped(tx, again)
    return again


def rerun_workflow(tx: Tx, project_id: str, workflow_id: str) -> Workflow:
    """Run every unsuccessful task again that still holds its name; Conflict if there is none that can."""
    workflow = workflows.lock_workflow(tx, project_id, workflow_id)
    failed = [t for t in tx.list_tasks(workflow_id) if t.state in model.RERUNNABLE and t.holds_name and not t.detached]
    coming = _with_hope(tx, failed)
    if not coming:
        raise errors.Conflict(f"workflow {workflow_id} has no unsuccessful task to run again", code="state")
    _reopen(tx, workflow)
    for task in failed:
        present = tx.find_task(project_id, task.id) if task.id in coming else None
        coming.discard(task.id)
        if present is not None and present.state in model.RERUNNABLE:
            _again(tx, present, coming)
    return workflows.get_workflow(tx, project_id, workflow_id)


def _hopeless(tx: Tx, task: Task, coming: Collection[str] = ()) -> Task | None:
    """A requirement that is over, does not let the task run, and is not ``coming`` again; None if there is none."""
    required = (other for other in tx.requirements_of(task.id) if other.finished and other.id not in coming)
    return next((other for other in required if not settling.lets_run(tx, other, task.undo_of)), None)


def _with_hope(tx: Tx, failed: Sequence[Task]) -> set[str]:
    """The ids of those that can run again together: what each requires succeeded, is under way, or comes along."""
    coming: set[str] = {task.id for task in failed}
    ahead = collections.deque(failed)
    while ahead:
        task = ahead.popleft()
        if task.id in coming and _hopeless(tx, task, coming) is not None:
            coming.discard(task.id)
            ahead.extend(other for other in tx.dependants_of(task.id) if other.id in coming)
    return coming


def _again(tx: Tx, task: Task, coming: Collection[str] = ()) -> Task:
    """The task waiting or ready with a new budget of attempts; attempt numbers go on rising (G3)."""
    hidden = task.spec.get("hidden_inputs")
    if isinstance(hidden, list) and hidden and not tx.unseal(task, "input"):
        raise errors.Conflict(
            f"task {task.name} ({task.id}) had hidden inputs, which were erased when it ended; add it anew",
            code="secrets-erased",
        )
    pending = settling.outstanding(tx, task, coming)
    deadline = task.number("deadline")
    waiting = lifecycle.moved(
        task,
        TaskState.WAITING,
        tx.now,
        pending=pending,
        attempts_left=int(task.number("max_attempts") or 1),
        status_reason="",
        agent_id=None,
        claim_id=None,
        confirmed=None,
        started_at=None,
        finished_at=None,
        deadline_at=None if deadline is None else tx.now + deadline,
    )
    return settling.move(tx, task, waiting if pending else announcing.readied(tx, waiting))


def _rerun_skipped(tx: Tx, task: Task) -> None:
    """What was skipped because of the task waits for it again, and so on; not what something else holds back too."""
    ahead = collections.deque([task])
    while ahead:
        for dependant in tx.dependants_of(ahead.popleft().id):
            skipped = dependant.state is TaskState.SKIPPED and dependant.holds_name
            if skipped and _hopeless(tx, dependant) is None:
                ahead.append(_again(tx, dependant))


def _reopen(tx: Tx, workflow: Workflow) -> None:
    """A finished workflow is active again; one on its way down stays there."""
    if workflow.state is WorkflowState.UNDOING:
        raise _busy(workflow)
    reopen_to_undo(tx, workflow)


def _busy(workflow: Workflow) -> errors.Conflict:
    return errors.Conflict(f"workflow {workflow.id} is {workflow.state.value}; wait until it is done", code="state")


def reopen_to_undo(tx: Tx, workflow: Workflow) -> None:
    """A finished workflow is active again, or nobody would be handed its tasks; one that undoes already may go on."""
    if workflow.state is WorkflowState.CANCELLING:
        raise _busy(workflow)
    if workflow.state in model.WORKFLOW_FINISHED:
        tx.save_workflow(dataclasses.replace(workflow, state=WorkflowState.ACTIVE, finished_at=None))
        tx.add_event(workflow.id, "workflow-active", None, {"reopened": True})


def undo_task(tx: Tx, project_id: str, workflow_id: str, task_id: str) -> Task:
    """The task that takes a succeeded one back; the same one when asked again. Conflict if there is nothing to undo."""
    workflow = workflows.lock_workflow(tx, project_id, workflow_id)
    task = cancelling.get_task(tx, project_id, workflow_id, task_id)
    for undo in reversed(tx.undo_tasks(task.id)):
        if undoing.taken_back_by(undo) and (not undo.finished or undo.state is TaskState.SUCCEEDED):
            return undo
    if undoing.definition_of(task) is None:
        raise errors.Conflict(f"task {task.name} ({task.id}) has no undo", code="no-undo")
    if task.state is not TaskState.SUCCEEDED:
        raise errors.Conflict(f"task {task.name} ({task.id}) is {task.state.value}: only a success can be undone")
    reopen_to_undo(tx, workflow)
    return settling.start(tx, undoing.add_undo(tx, workflow, task))


def undo_workflow(tx: Tx, project_id: str, workflow_id: str) -> Workflow:
    """Undo what succeeded in reverse order of the edges, once the rest is cancelled."""
    workflow = workflows.lock_workflow(tx, project_id, workflow_id)
    if workflow.state is WorkflowState.UNDOING:
        return workflow
    if workflow.state in (WorkflowState.UNDONE, WorkflowState.CLOSED):
        raise errors.Conflict(f"workflow {workflow_id} is {workflow.state.value} already", code="state")
    added = undoing.begin(tx, workflow)
    if not added:
        raise errors.Conflict(f"workflow {workflow_id} has no succeeded task with an undo", code="no-undo")
    cancelling.cancel_all(tx, workflow, "the workflow is being undone", undos_too=False)
    for undo in added:
        settling.start(tx, undo)
    return workflows.get_workflow(tx, project_id, workflow_id)
