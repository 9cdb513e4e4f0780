# SPDX-License-Identifier: Apache-2.0
"""Acting: one word on many tasks of a workflow at once, all or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from heat_workflow import errors
from heat_workflow.model import Task, TaskState, Workflow
from heat_workflow.store import Tx
from heat_workflow.taskqueue import cancelling, repeating, settling, undoing, workflows


def act(tx: Tx, project_id: str, workflow_id: str, word: str, ids: Sequence[str]) -> list[Task]:
    """Cancel, detach, remove or undo the tasks, and return them as they stand then; for undo, the tasks that undo them.

    It may be repeated. NotFound if the workflow has not all of them; Conflict if one of them cannot be undone.
    """
    workflow = workflows.lock_workflow(tx, project_id, workflow_id)
    known: dict[str, Task] = {task.id: task for task in tx.list_tasks(workflow_id)}
    for task_id in ids:
        if task_id not in known:
            raise cancelling.task_not_found(workflow_id, task_id)
    if word == "undo":
        return _undo(tx, workflow, list(known.values()), list(dict.fromkeys(ids)))
    for task in sorted((known[task_id] for task_id in set(ids)), key=lambda task: -task.seq):  # dependants first
        if word == "cancel":
            cancelling.cancel_task(tx, project_id, workflow_id, task.id)
            continue
        cancelling.detach_task(tx, project_id, workflow_id, task.id)
        if word == "remove" and task.holds_name:
            detached = cancelling.get_task(tx, project_id, workflow_id, task.id)
            settling.move(tx, detached, dataclasses.replace(detached, holds_name=False))
    return [cancelling.get_task(tx, project_id, workflow_id, task_id) for task_id in ids]


def _undo(tx: Tx, workflow: Workflow, tasks: list[Task], ids: Sequence[str]) -> list[Task]:
    """In reverse order of the edges between them; what is being undone or was, is not undone again."""
    by_id: dict[str, Task] = {task.id: task for task in tasks}
    undos: dict[str, Task] = {}
    for task in tasks:
        taken_back = undoing.taken_back_by(task)
        if taken_back is not None and (not task.finished or task.state is TaskState.SUCCEEDED):
            undos[taken_back] = task
    new = [task_id for task_id in ids if task_id not in undos]
    for task_id in new:
        task = by_id[task_id]
        if undoing.definition_of(task) is None or task.state is not TaskState.SUCCEEDED:
            said = "has no undo" if undoing.definition_of(task) is None else f"is {task.state.value}"
            raise errors.Conflict(f"task {task.name} ({task.id}) {said}: it cannot be undone", code="no-undo")
    if new:
        repeating.reopen_to_undo(tx, workflow)
        for undo in undoing.add_undos(tx, workflow, tasks, new, []):
            started, taken_back = settling.start(tx, undo), undoing.taken_back_by(undo)
            if taken_back is not None:
                undos[taken_back] = started
    return [undos[task_id] for task_id in ids]
