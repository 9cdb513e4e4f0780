# SPDX-License-Identifier: Apache-2.0
"""Undoing: tasks that take succeeded ones back, with the run's own values, in reverse order of the edges."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Mapping

from heat_workflow import model
from heat_workflow.model import Json, NewTask, Task, TaskState, Workflow, WorkflowState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import building, requirements

ACTION = "UNDO"


def definition_of(task: Task) -> Mapping[str, Json] | None:
    """What takes the task back, None if its author gave nothing."""
    undo = task.spec.get("undo")
    return undo if isinstance(undo, dict) else None


def _names(task: Task, field: str) -> list[Json]:
    names = task.spec.get(field)
    return list(names) if isinstance(names, list) else []


def add_undo(tx: Tx, workflow: Workflow, task: Task, after: list[Task]) -> Task:
    """Add the undo of a succeeded task, to run once each of ``after`` is finished, whatever became of it. Where there
    is nothing to wait for, the caller starts it."""
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
    pending = sum(not other.finished for other in after)
    added = building.task_of(tx, workflow, request, tx.next_task_seq(workflow.id), pending)
    tx.insert_tasks([added], {added.definition_id: dict(undo)})
    tx.seal(added, "input", building.hidden_inputs(request))
    tx.insert_requirements(workflow.id, [(added.id, other.id) for other in after])
    tx.add_event(workflow.id, "task-added", added, {"name": added.name, "state": added.state.value})
    return added


def begin(tx: Tx, workflow: Workflow, *, latest_only: bool = False) -> list[Task]:
    """Add the undo of every succeeded task of a locked workflow, each after the undos of what was built on it.

    With ``latest_only`` those that were added last, in one request, and no earlier ones: the version that failed is
    taken back, not what it found. None are added if there is nothing to undo. What is unfinished is waited for, undos
    under way too; the caller cancels the rest, and starts those that wait for nothing.
    """
    tasks = tx.list_tasks(workflow.id)
    held = [task for task in tasks if not task.finished]
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
    on it are finished."""
    dependants = _dependants(tx, workflow, tasks)
    undos: dict[str, Task] = {}
    return [
        _add_once(tx, workflow, task, after, dependants, undos)
        for task in _outermost_first(tasks, dependants)
        if task.id in chosen
    ]


def _outermost_first(tasks: list[Task], dependants: Mapping[str, set[str]]) -> list[Task]:
    """Each task after everything that was built on it. Told edges may go round in a circle: one of them gives way."""
    by_id: dict[str, Task] = {task.id: task for task in tasks}
    ordered: dict[str, Task] = {}
    seen: set[str] = set()
    for last in reversed(tasks):
        ahead: list[tuple[str, bool]] = [(last.id, False)]
        while ahead:
            task_id, leaving = ahead.pop()
            if leaving:
                ordered[task_id] = by_id[task_id]
            elif task_id not in seen:
                seen.add(task_id)
                ahead.append((task_id, True))
                ahead += [(other, False) for other in sorted(dependants.get(task_id, ()))]
    return list(ordered.values())


def _add_once(
    tx: Tx,
    workflow: Workflow,
    task: Task,
    held: list[Task],
    dependants: Mapping[str, set[str]],
    undos: dict[str, Task],
) -> Task:
    waits_for = [undos[other] for other in _reachable(dependants, task.id) if other in undos]
    undos[task.id] = add_undo(tx, workflow, task, [*waits_for, *held])
    return undos[task.id]


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


def _reachable(dependants: Mapping[str, set[str]], start: str) -> set[str]:
    """Everything built on ``start``, directly or through others."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for other in dependants.get(ahead.pop(), ()):
            if other not in seen:
                seen.add(other)
                ahead.append(other)
    return seen
