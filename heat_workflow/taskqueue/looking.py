# SPDX-License-Identifier: Apache-2.0
"""Looking: tasks with what belongs to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from heat_workflow import model
from heat_workflow.model import Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import cancelling, workflows
from heat_workflow.taskqueue.holding import Onlooker


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


def list_details(
    tx: Tx,
    project_id: str,
    workflow_id: str,
    state: str | None,
    marker: str | None,
    limit: int,
    fanout: str | None = None,
) -> list[Details]:
    """A page of a workflow's tasks in the order they were added, without their definitions; with ``fanout`` of the
    fan-out of that name: every run of its members that still has its owner."""
    workflows.get_workflow(tx, project_id, workflow_id)
    if fanout is None:
        return details_of(tx, tx.list_tasks(workflow_id, state=state, marker=marker, limit=limit), definitions=False)
    found = tx.list_tasks(workflow_id, state=state, marker=marker)
    return details_of(tx, [t for t in found if t.fanout == fanout and not t.detached][:limit], definitions=False)


def fanout_unfinished(tx: Tx, project_id: str, workflow_id: str, fanout: str) -> bool:
    """Whether a member of the fan-out is still to come to its end."""
    workflows.get_workflow(tx, project_id, workflow_id)
    return bool({TaskState(state) for state in tx.count_fanout(workflow_id, fanout)} & model.UNFINISHED)


def details_of(tx: Tx, tasks: Sequence[Task], *, definitions: bool) -> list[Details]:
    attempts = tx.last_attempts(tasks)
    onlooker = Onlooker(tx)
    return [
        Details(
            task,
            tx.get_definition(task.project_id, task.definition_id) if definitions else None,
            attempts.get(task.id),
            onlooker.waiting_for(task),
        )
        for task in tasks
    ]
