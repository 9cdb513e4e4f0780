# SPDX-License-Identifier: Apache-2.0
"""Settling: what a task's move means for the tasks and the workflow around it, in the same transaction."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, batches, undoing


def move(tx: Tx, before: Task, after: Task) -> Task:
    """Record the move with its event and carry its consequences; Conflict if somebody else moved the task."""
    if after.state is before.state:
        return _record(tx, before, after)
    # Whoever moves a task holds its workflow first, so that nobody waits for the other one of the two (Q1). Successors
    # count down under it: two last requirements that finish at once both count.
    workflow = tx.lock_workflow(before.project_id, before.workflow_id)
    _record(tx, before, after)
    if after.finished:
        _carry(tx, after)
        if workflow is not None and workflow.may_end:
            end_if_done(tx, after.project_id, after.workflow_id)
        failpoint("settle.ended")
    return after


def lock_workflows(tx: Tx, tasks: Iterable[Task]) -> None:
    """Lock the workflows of the tasks, in the one order in which everybody locks several (Q1)."""
    for workflow_id, project_id in sorted({(task.workflow_id, task.project_id) for task in tasks}):
        tx.lock_workflow(project_id, workflow_id)


def start(tx: Tx, added: Task) -> Task:
    """The added task as it stands: ready, if it has nothing to wait for."""
    task = tx.find_task(added.project_id, added.id) or added
    waits = task.state is not TaskState.WAITING or task.pending > 0
    return task if waits else move(tx, task, announcing.readied(tx, task))


def _record(tx: Tx, before: Task, after: Task) -> Task:
    """The move itself."""
    if not tx.save_task(before, after):
        raise errors.Conflict(f"task {before.name} ({before.id}) was changed meanwhile; read it again", code="raced")
    failpoint("settle.moved")
    if after.state is not before.state:
        announcing.announce(tx, after)
        if before.state in model.HELD and after.state not in model.HELD:
            _free_key(tx, after)
        failpoint("settle.announced")
    return after


def _carry(tx: Tx, task: Task) -> None:
    """All that the end of a task brings about. One end after the other, not one within the other: a long chain of
    tasks may be skipped at once, and each look at the rows has to see what the ends before it have done."""
    ended = collections.deque([task])
    while ended:
        ended += _finish(tx, ended.popleft())


def _finish(tx: Tx, task: Task) -> list[Task]:
    """Secrets go, successors and the next batch come; the tasks that came to their end by that."""
    if task.spec.get("hidden_inputs"):
        tx.erase(task, "input")
    moved = _unlock(tx, task)
    failpoint("settle.unlocked")
    taken_back = undoing.taken_back_by(task)
    if taken_back is not None and task.state is TaskState.SUCCEEDED:
        undone = tx.find_task(task.project_id, taken_back)
        if undone is not None and undone.state is TaskState.SUCCEEDED:
            moved.append(_record(tx, undone, lifecycle.moved(undone, TaskState.UNDONE, tx.now)))
    if task.batch is not None:
        moved += _turn(tx, task)
        failpoint("settle.turned")
    return [one for one in moved if one.finished]


def _free_key(tx: Tx, task: Task) -> None:
    if task.concurrency_key is None:
        return
    tx.drop_key(task)
    for waiting in tx.ready_with_key(task.project_id, task.concurrency_key, 1):
        announcing.wake_takers(tx, waiting)


def _turn(tx: Tx, task: Task) -> list[Task]:
    """After the last task of a batch: the next one's turn, or its end if too many failed. A batch of which nobody
    waits any more, its members were cancelled, passes its turn on."""
    assert task.fanout is not None
    assert task.batch is not None
    batch = task.batch
    while not tx.batch_unfinished(task.workflow_id, task.fanout, batch):
        batch += 1
        members = tx.list_fanout(task.workflow_id, task.fanout, batch)
        waiting = [member for member in members if member.state is TaskState.WAITING]
        if waiting or not members:
            return _give_turn(tx, task, waiting)
    return []


def _give_turn(tx: Tx, task: Task, members: list[Task]) -> list[Task]:
    failed = batches.failures(tx.count_fanout(task.workflow_id, task.fanout or ""))
    most = batches.max_errors(task.spec)
    if failed > most:
        reason = f"{failed} of {task.fanout} failed, more than max_errors {most}: no new batch starts"
        return [_skip(tx, member, reason) for member in members]
    pause = batches.pause(task.spec)
    start = tx.now + pause if pause else None
    return [_count_down(tx, member, model.changed(member, not_before=start)) for member in members]


def _skip(tx: Tx, task: Task, reason: str) -> Task:
    return _record(tx, task, lifecycle.moved(task, TaskState.SKIPPED, tx.now, status_reason=reason))


def _count_down(tx: Tx, before: Task, task: Task) -> Task:
    """One thing less to wait for; ready once it was the last and no delay is left."""
    pending = task.pending - 1
    if pending <= 0:
        pending = outstanding(tx, task)  # what ran again was counted down for before
    counted = lifecycle.with_due(model.changed(task, pending=pending))
    waits = counted.pending > 0 or (counted.not_before or 0) > tx.now
    return _record(tx, before, counted if waits else announcing.readied(tx, counted))


def outstanding(tx: Tx, task: Task, coming: Collection[str] = ()) -> int:
    """How many things the task waits for: requirements unfinished or ``coming`` again, the turn of its batch."""
    required = sum(state not in model.FINISHED or other in coming for other, state in tx.requirement_states(task.id))
    if not task.batch or task.fanout is None:
        return required
    return required + tx.batch_unfinished(task.workflow_id, task.fanout, task.batch - 1)


def _unlock(tx: Tx, finished: Task) -> list[Task]:
    reason = f"requirement {finished.name} ({finished.id}) is {finished.state.value}"
    return [
        _count_down(tx, task, task) if lets_run(tx, finished, task.undo_of) else _skip(tx, task, reason)
        for task in tx.dependants_of(finished.id)
        if task.state is TaskState.WAITING
    ]


def lets_run(tx: Tx, finished: Task, undo_of: str | None) -> bool:
    """Whether the finished requirement counts as met: it succeeded, its failure is within its fan-out's tolerance,
    or the task is an undo (of ``undo_of``), which goes on whatever became of the others."""
    if undo_of is not None or lifecycle.requirement_outcome(finished.state):
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
    state = lifecycle.sealed_outcome(_what_counts(tx, workflow))
    if taking_back:
        end_workflow(tx, workflow, _undo_outcome(tx, workflow))
    elif state is not None and not _takes_back(tx, workflow, state):
        end_workflow(tx, workflow, state)


def _what_counts(tx: Tx, workflow: model.Workflow) -> set[TaskState]:
    """The states of the tasks in effect: not of those that an amendment has put others in place of, and a failure
    that its fan-out tolerates is none."""
    current = [task for task in tx.list_tasks(workflow.id) if task.holds_name]
    bad = (TaskState.FAILED, TaskState.TIMED_OUT)
    tolerated = {task.fanout for task in current if task.state in bad and lets_run(tx, task, None)}
    return {task.state for task in current if not (task.state in bad and task.fanout in tolerated)}


def _takes_back(tx: Tx, workflow: model.Workflow, state: model.WorkflowState) -> bool:
    """Whether the failed workflow now undoes what succeeded: its author wants that, and there is something to undo."""
    wanted = state is model.WorkflowState.FAILED and workflow.on_failure == "undo"
    added = undoing.begin(tx, workflow, latest_only=True) if wanted else []
    for undo in added:
        start(tx, undo)
    return bool(added)


def _undo_outcome(tx: Tx, workflow: model.Workflow) -> model.WorkflowState:
    undos = [task for task in tx.list_tasks(workflow.id) if task.undo_of is not None]
    clean = all(task.state is TaskState.SUCCEEDED for task in undos)
    return model.WorkflowState.UNDONE if clean else model.WorkflowState.FAILED


def end_workflow(tx: Tx, workflow: model.Workflow, state: model.WorkflowState) -> None:
    tx.save_workflow(dataclasses.replace(workflow, state=state, finished_at=tx.now))
    tx.add_event(workflow.id, f"workflow-{state.value}", None, {})
