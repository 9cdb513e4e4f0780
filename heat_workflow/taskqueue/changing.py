# SPDX-License-Identifier: Apache-2.0
"""Changing: what was asked of a task, as long as nobody has claimed it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from heat_workflow import errors, lifecycle
from heat_workflow.model import Json, Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import cancelling, requirements, workflows


def change_task(tx: Tx, project_id: str, workflow_id: str, task_id: str, changes: Mapping[str, Json]) -> Task:
    """The changed task; Conflict once it was claimed, Invalid for values that cannot change any more."""
    workflows.lock_workflow(tx, project_id, workflow_id)
    task = cancelling.get_task(tx, project_id, workflow_id, task_id)
    if task.state not in (TaskState.WAITING, TaskState.READY) or task.attempt:
        raise errors.Conflict(f"task {task.name} ({task.id}) is {task.state.value}; add a new one instead")
    spec = {**task.spec, **{name: value for name, value in changes.items() if name != "priority"}}
    _refuse_other_edges(task, spec)
    priority, deadline = changes.get("priority"), spec.get("deadline")
    changed = lifecycle.with_due(
        dataclasses.replace(
            task,
            spec=spec,
            priority=priority if isinstance(priority, int) else task.priority,
            deadline_at=task.created_at + deadline if isinstance(deadline, (int, float)) else None,
        )
    )
    tx.save_spec(changed)
    fields: list[Json] = [*sorted(changes)]
    tx.add_event(workflow_id, "task-changed", changed, {"name": task.name, "fields": fields})
    return changed


def _refuse_other_edges(task: Task, spec: Mapping[str, Json]) -> None:
    """Edges are made when a task is added, and hidden values are kept apart: neither can be slipped in later."""
    if requirements.late_inputs(spec) != requirements.late_inputs(task.spec):
        raise errors.Invalid("get_output inputs are edges; they cannot be changed after a task was added")
    hidden, values = spec.get("hidden_inputs"), spec.get("input_values")
    covered = set(hidden) if isinstance(hidden, list) else set()
    if isinstance(values, dict) and spec["input_values"] != task.spec.get("input_values") and covered & set(values):
        raise errors.Invalid("hidden inputs cannot be changed; add a new task")
