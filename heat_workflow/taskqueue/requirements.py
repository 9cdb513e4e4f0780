# SPDX-License-Identifier: Apache-2.0
"""Requirements: the names a task requires, found among the request's own tasks and those of the workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Json, NewTask, Task
from heat_workflow.store import Tx


def required_names(request: NewTask) -> list[str]:
    """The names or ids a request requires: said by ``requires`` and implied by ``get_output``, each once."""
    late = [source for source, _ in late_inputs(request.spec).values()]
    return list(dict.fromkeys([*request.requires, *late]))


def late_inputs(spec: Mapping[str, Json]) -> dict[str, tuple[str, str]]:
    """By input name, the (task, output) its value comes from."""
    values = spec.get("input_values")
    found: dict[str, tuple[str, str]] = {}
    for name, value in values.items() if isinstance(values, dict) else ():
        source = value.get("get_output") if isinstance(value, dict) and len(value) == 1 else None
        if source is None:
            continue
        if not (isinstance(source, list) and len(source) == 2 and all(isinstance(part, str) for part in source)):
            raise errors.Invalid(f"input {name}: get_output takes [task, output], two strings", code="get-output")
        found[name] = (str(source[0]), str(source[1]))
    return found


def late_values(tx: Tx, task: Task) -> tuple[dict[str, Json], set[str]]:
    """By input name, the value that its source task has reported; and which of them are hidden there.

    A source that is a fan-out gives a map by server name; an output that was not set is null. An undo has the values
    of its task: what looks like a reference in them is what a guest has said.
    """
    late = {} if task.undo_of is not None else late_inputs(task.spec)
    if not late:
        return {}, set()
    required = tx.requirements_of(task.id)
    attempts = tx.last_attempts(required)
    sealed: dict[str, dict[str, Json]] = {
        other.id: tx.unseal(other, "output") for other in required if other.spec.get("hidden_outputs")
    }
    values = {name: _late_value(required, attempts, sealed, source, output) for name, (source, output) in late.items()}
    hidden = {name for name, (_, output) in late.items() if any(output in values for values in sealed.values())}
    return values, hidden


def _late_value(
    required: list[Task],
    attempts: Mapping[str, model.Attempt],
    hidden: Mapping[str, Mapping[str, Json]],
    source: str,
    output: str,
) -> Json:
    def value(task: Task) -> Json:
        attempt = attempts.get(task.id)
        known = {} if attempt is None else {**attempt.outputs, **hidden.get(task.id, {})}
        return known.get(output)

    members = [task for task in required if task.fanout == source]
    if members:
        return {task.name.removeprefix(f"{source}/"): value(task) for task in members}
    return next((value(task) for task in required if source in (task.name, task.id)), None)


def resolve_requirements(
    tx: Tx, workflow: model.Workflow, requests: Sequence[NewTask], wanted: Mapping[str, list[str]]
) -> dict[str, list[Task | str]]:
    """By task name, what it requires: tasks that exist, or names of this request."""
    groups: dict[str, list[str]] = {}
    partly: set[str] = set()  # fan-outs, of which the workflow may have further members already
    for request in requests:
        groups.setdefault(request.name, []).append(request.name)
        base = request.spec.get("fanout")
        if isinstance(base, str):
            groups.setdefault(base, []).append(request.name)
            partly.add(base)
        if request.id:
            groups.setdefault(request.id, []).append(request.name)
    outside = {name for names in wanted.values() for name in names if name not in groups or name in partly}
    existing: dict[str, list[Task]] = {}
    for task in tx.find_names(workflow.id, outside) if outside else ():
        for name in {task.name, task.id, task.fanout}:
            if name is not None and not (name in partly and task.name in groups):
                existing.setdefault(name, []).append(task)
    edges: dict[str, list[Task | str]] = {}
    for name, required in wanted.items():
        once: dict[str, Task | str] = {}
        for other in required:
            found: Sequence[Task | str] = [*groups.get(other, ()), *existing.get(other, ())]
            if not found:
                raise errors.Invalid(
                    f"task {name} requires {other}, which is no task of workflow {workflow.id}",
                    code="unknown-requirement",
                )
            once |= {one.id if isinstance(one, Task) else one: one for one in found}
        edges[name] = list(once.values())
    cycle = lifecycle.find_cycle(
        {name: [one for one in found if isinstance(one, str)] for name, found in edges.items()}
    )
    if cycle is not None:
        raise errors.Invalid(f"tasks require each other in a circle: {' -> '.join(cycle)}", code="cycle")
    return edges


def unfinished(other: Task | str) -> bool:
    """Whether the requirement is still to come to its end; one of the same request is."""
    return isinstance(other, str) or not other.finished


def id_of(other: Task | str, ids: Mapping[str, model.TaskId]) -> str:
    return other.id if isinstance(other, Task) else ids[other]
