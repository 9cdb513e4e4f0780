# SPDX-License-Identifier: Apache-2.0
"""Looking: tasks with what belongs to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from heat_workflow import model
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import cancelling, workflows
from heat_workflow.taskqueue.holding import Onlooker

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
