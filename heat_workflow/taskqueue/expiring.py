# SPDX-License-Identifier: Apache-2.0
"""Expiring: what the passing of time alone does to tasks. Enforces deadlines; correctness never waits for it."""

from __future__ import annotations

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, settling

_MOST = 200  # tasks in one transaction, so that claims get their turn between


def any_due(tx: Tx) -> bool:
    return bool(tx.list_due(1))


def expire(tx: Tx) -> int:
    """Move every task whose time has come and return how many; call again while it returns more than 0."""
    due = tx.list_due(_MOST)
    settling.lock_workflows(tx, due)
    for task in due:
        _expire_one(tx, task)
    return len(due)


def _expire_one(tx: Tx, listed: Task) -> None:
    task = tx.find_task(listed.project_id, listed.id)
    if task is None or task.due_at != listed.due_at:
        return  # moved meanwhile, or by one that stood before it in this list
    if task.state is TaskState.WAITING and (task.deadline_at is None or task.deadline_at > tx.now):
        after: Task | None = announcing.readied(tx, task)
    else:
        after = lifecycle.overdue(task, tx.now)
    if after is None:
        return
    try:
        settling.move(tx, task, after)
    except errors.Conflict:
        return  # its agent spoke at the same moment; the first commit wins
    if after.state in (TaskState.TIMED_OUT, TaskState.WAITING) and task.state in model.HELD:
        _close_attempt(tx, task, after)


def _close_attempt(tx: Tx, task: Task, after: Task) -> None:
    attempt = tx.find_attempt(task.id, task.attempt)
    if attempt is not None:
        closed = {**vars(attempt), "finished_at": tx.now, "result": "timed_out", "reason": after.status_reason}
        tx.save_attempt(model.Attempt(**closed))
