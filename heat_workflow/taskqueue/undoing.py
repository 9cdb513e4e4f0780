# SPDX-License-Identifier: Apache-2.0
"""Undoing: tasks that take succeeded ones back, with the run's own values, in reverse order of the edges."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Mapping

from heat_workflow import model
from heat_workflow.model import Json, NewTask, Task, TaskState, Workflow, WorkflowState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import building, requirements, undo_order

ACTION = "UNDO"


def definition_of(task: Task) -> Mapping[str, Json] | None:
    """What takes the task back, None if its author gave nothing."""
    undo = task.spec.get("undo")
    return undo if isinstance(undo, dict) else None


def _names(task: Task, field: str) -> list[Json]:
    names = task.spec.get(field)
    return list(names) if isinstance(names, list) else []


def taken_back_by(undo: Task) -> str | None:
    """The id of the task that the undo takes back; None for other tasks, and for a barrier between undos."""
    return None if undo.spec.get("barrier") else undo.undo_of


def _add_undo(tx: Tx, workflow: Workflow, task: Task, after: list[Task]) -> Task:
    """Add the undo of a succeeded task, to run once each of ``after`` is finished, whatever became of it."""
    undo = definition_of(task)
    assert undo is not None
    attempt = tx.last_attempts([task]).get(task.id)
    values = task.spec.get("input_values")
    late, hidden_late = requirements.late_values(tx, task)
    inputs = {**(values if isinstance(values, dict) else {}), **late}
    outputs = {} if attempt is None else {**attempt.outputs, **tx.unseal(task, "output")}
    hidden_outputs = _names(task, "hidden_outputs")
    request = NewTask(
        id=model.TaskId(str(uuid.uuid4())),
        name=f"undo of {task.name}"[:511],
        definition=undo,
        spec={
            "input_values": {**outputs, **inputs},
            "hidden_inputs": [*_names(task, "hidden_inputs"), *hidden_outputs, *sorted(hidden_late)],
            "hidden_outputs": [*hidden_outputs],
            "environment_inputs": _names(task, "environment_inputs"),
            "heat": task.spec.get("heat"),
            "timeout": task.spec.get("timeout"),
            "pickup_timeout": task.spec.get("pickup_timeout"),
            "run_as": task.spec.get("run_as"),
            "on_interrupt": task.spec.get("on_interrupt"),
            "retry_delay": task.spec.get("retry_delay"),
            "max_attempts": task.spec.get("max_attempts"),
            "undo": None,
        },
        capabilities=[c for c in task.capabilities if c != f"server={task.spec.get('server')}"],
        server=str(task.spec["server"]) if task.spec.get("server") else None,
        action=ACTION,
        priority=task.priority,
        max_attempts=int(task.number("max_attempts") or 1),
        undo_of=task.id,
    )
    return _add(tx, workflow, request, after)


def _add(tx: Tx, workflow: Workflow, request: NewTask, after: list[Task]) -> Task:
    pending = sum(not other.finished for other in after)
    added = building.task_of(tx, workflow, request, tx.next_task_seq(workflow.id), pending)
    tx.insert_tasks([added], {added.definition_id: dict(request.definition)})
    tx.seal(added, "input", building.hidden_inputs(request))
    tx.insert_requirements(workflow.id, [(added.id, other.id) for other in after])
    tx.add_event(workflow.id, "task-added", added, {"name": added.name, "state": added.state.value})
    return added


def begin(tx: Tx, workflow: Workflow, *, latest_only: bool = False) -> list[Task]:
    """Add the undo of every succeeded task of a locked workflow, each after the undos of what was built on it.

    With ``latest_only`` those that were added last, in one request, and no earlier ones: the version that failed is
    taken back, not what it found. None are added if there is nothing to undo. What agents hold is waited for, undos
    under way too; the caller cancels the rest, and starts those that wait for nothing.
    """
    tasks = tx.list_tasks(workflow.id)
    held = [task for task in tasks if task.state in model.HELD or (task.undo_of is not None and not task.finished)]
    under_way = {task.undo_of for task in held}
    since = max((task.created_at for task in tasks if task.undo_of is None), default=0.0) if latest_only else 0.0
    chosen = {
        task.id
        for task in tasks
        if task.state is TaskState.SUCCEEDED
        and task.undo_of is None
        and task.created_at >= since
        and task.id not in under_way
        and definition_of(task) is not None
    }
    added = add_undos(tx, workflow, tasks, chosen, held)
    if added:
        tx.save_workflow(dataclasses.replace(workflow, state=WorkflowState.UNDOING, finished_at=None))
        tx.add_event(workflow.id, "workflow-undoing", None, {"tasks": len(added)})
    return added


def add_undos(tx: Tx, workflow: Workflow, tasks: list[Task], chosen: Collection[str], after: list[Task]) -> list[Task]:
    """Add the undos of the chosen ones among the workflow's tasks, each once ``after`` and the undos of what was built
    on it are finished, also of those whose undo is under way; with the barriers between them, if it takes any."""
    added = {undone: task for task in tasks if not task.finished and (undone := taken_back_by(task))}
    steps = undo_order.steps([task.id for task in tasks], _dependants(tx, workflow, tasks), chosen, list(added))
    new_ids = {step.task_id for step in steps}
    first = {step.task_id for step in steps if not any(other in new_ids for other in step.after)}
    if len(after) > 1 and len(first) > 1:
        after = [_add_barrier(tx, workflow, after[0], after)]
    by_id: dict[str, Task] = {task.id: task for task in tasks}
    for step in steps:
        waits_for = [added[task_id] for task_id in step.after]
        if step.task_id in first:  # the others follow from these
            waits_for = list({task.id: task for task in [*waits_for, *after]}.values())
        add = _add_barrier if step.barrier else _add_undo
        added[step.task_id] = add(tx, workflow, by_id[step.task_id], waits_for)
    return [added[step.task_id] for step in steps]


def add_undo(tx: Tx, workflow: Workflow, task: Task) -> Task:
    """Add the undo of a succeeded task, to run once the undos under way of what was built on it are finished. Where
    there is nothing to wait for, the caller starts it."""
    live = [one for state in model.UNFINISHED for one in tx.list_tasks(workflow.id, state=state.value)]
    if not any(one.undo_of for one in live):
        return _add_undo(tx, workflow, task, [])
    return add_undos(tx, workflow, tx.list_tasks(workflow.id), {task.id}, [])[0]


def _add_barrier(tx: Tx, workflow: Workflow, task: Task, after: list[Task]) -> Task:
    """A task that nobody runs: it stands in the place of ``task`` between many undos and as many that wait for them."""
    request = NewTask(
        id=model.TaskId(str(uuid.uuid4())),
        name=f"barrier before undoing what {task.name} required"[:511],
        definition={"group": building.UNGROUPED, "config": ""},
        spec={
            "barrier": True,
            "input_values": {},
            "hidden_inputs": [],
            "hidden_outputs": [],
            "heat": None,
            "timeout": None,
            "pickup_timeout": None,
            "run_as": None,
            "on_interrupt": "fail",
            "retry_delay": 0,
            "max_attempts": 1,
            "undo": None,
        },
        action=ACTION,
        undo_of=task.id,
    )
    return _add(tx, workflow, request, after)


def _dependants(tx: Tx, workflow: Workflow, tasks: list[Task]) -> dict[str, set[str]]:
    """By task id, what was built on it: enforced edges, and those that Heat told."""
    found: dict[str, set[str]] = {}
    for task_id, required in tx.list_requirements(workflow.id):
        found.setdefault(required, set()).add(task_id)
    by_resource: dict[str, str] = {}
    for task in tasks:
        resource, _ = _told(task)
        if resource:
            by_resource[resource] = task.id
    for task in tasks:
        for source in _told(task)[1]:
            if source in by_resource:
                found.setdefault(by_resource[source], set()).add(task.id)
    return found


def _told(task: Task) -> tuple[str | None, list[str]]:
    """The Heat resource of the task and the resources it depends on."""
    heat = task.spec.get("heat")
    if not isinstance(heat, dict):
        return None, []
    edges = heat.get("edges")
    sources = [str(edge["from"]) for edge in edges if isinstance(edge, dict)] if isinstance(edges, list) else []
    return str(heat.get("resource")), sources
