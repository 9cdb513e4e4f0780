# SPDX-License-Identifier: Apache-2.0
"""Expiring: what the passing of time alone does to tasks. Enforces deadlines; correctness never waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from oslo_log import log

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import faultpoint
from heat_workflow.loops import Loop
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import TaskQueue, announcing, holding, settling

LOG = log.getLogger(__name__)
_ASIDE = 30.0  # seconds before a task that could not be moved is tried again
_ASIDE_BRIEFLY = 2.0  # the same, if it may have been the store
_MOST = 200  # tasks in one transaction, so that claims get their turn between


class Expiry:
    """Does so again and again. A task that cannot be moved, whatever the reason, does not hold up the others."""

    def __init__(self, queue: TaskQueue, health: Loop, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._health = health
        self._clock = clock
        self._singly = False  # whether many in one transaction did not go
        self._aside: dict[str, float] = {}  # tasks that could not be moved, until when they are left alone

    async def run(self) -> None:
        """Move every task whose time has come."""
        self._aside = {task_id: until for task_id, until in self._aside.items() if until > self._clock()}
        while await self._due(1):
            if self._singly or self._aside:
                moved = await self._each()
            else:
                moved = await self._together()
            if not moved:
                return
            self._health.finish()
        self._singly = False

    async def _due(self, most: int) -> list[str]:
        """So many that are due and not set aside."""
        due = await self._queue.read(due_ids, most + len(self._aside))
        return [task_id for task_id in due if task_id not in self._aside]

    async def _together(self) -> int:
        self._singly = True  # the next time, if this raises
        try:
            moved = await self._queue.write(expire)
        except errors.Unavailable:
            raise
        except Exception as exc:
            self._health.fail(exc)
            return await self._each()
        self._singly = False
        return moved

    async def _each(self) -> int:
        """Move them each in a transaction of its own; how many went."""
        moved = 0
        for task_id in await self._due(_MOST):
            try:
                await self._queue.write(expire_task, task_id)
                moved += 1
            except errors.Unavailable:
                self._aside[task_id] = self._clock() + _ASIDE_BRIEFLY
                raise
            except Exception as exc:
                LOG.warning("Task %s could not be moved on (%s); the others go on", task_id, type(exc).__name__)
                self._aside[task_id] = self._clock() + _ASIDE
                self._health.fail(exc)
        return moved


def due_ids(tx: Tx, most: int) -> list[str]:
    faultpoint("expire.look")
    return tx.due_ids(most)


def expire(tx: Tx) -> int:
    """Move every task whose time has come and return how many; call again while it returns more than 0."""
    due = tx.list_due(_MOST)
    onlooker = holding.Onlooker(tx)
    settling.lock_workflows(tx, due)
    for task in due:
        _expire_one(tx, task, onlooker)
    return len(due)


def expire_task(tx: Tx, task_id: str) -> None:
    """Move that one task, if its time has come."""
    task = tx.find_task_any_project(task_id)
    if task is not None:
        settling.lock_workflows(tx, [task])
        _expire_one(tx, task, holding.Onlooker(tx))


def _expire_one(tx: Tx, listed: Task, onlooker: holding.Onlooker) -> None:
    task = tx.find_task(listed.project_id, listed.id)
    if task is None or task.due_at != listed.due_at:
        return  # moved meanwhile, or by one that stood before it in this list
    if task.state is TaskState.WAITING and (task.deadline_at is None or task.deadline_at > tx.now):
        after: Task | None = announcing.readied(tx, task)
    else:
        after = lifecycle.overdue(task, tx.now)
    if after is None:
        return
    if after.state is TaskState.TIMED_OUT and task.state not in (TaskState.LEASED, TaskState.CANCELLING):
        after = model.changed(after, status_reason=holding.reason_with(after.status_reason, onlooker.hold(task)))
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
