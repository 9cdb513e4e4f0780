# SPDX-License-Identifier: Apache-2.0
"""Inline: the tasks of a workflow as its author writes them, the edges between them, and what is wrong with those."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import Any

from heat_workflow.resources.runs import APPLYING
from heat_workflow.resources.slots import History, Slot, slot_of
from heat_workflow.shapes import Json, Task

GET_OUTPUT = "get_output"
Tasks = Mapping[str, Mapping[str, Any]]


def reference_of(value: Any) -> Any:
    """What a ``get_output`` placeholder asks for, None if the value is none: a map of that one key."""
    return value[GET_OUTPUT] if isinstance(value, Mapping) and set(value) == {GET_OUTPUT} else None


def source_of(reference: Any) -> tuple[str, str] | None:
    """The task and the output that a placeholder asks for, None if it is not two names."""
    pair = isinstance(reference, (list, tuple)) and len(reference) == 2
    return (reference[0], reference[1]) if pair and all(isinstance(one, str) for one in reference) else None


def references(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each input that comes from another task, as (input, task, output)."""
    for name, value in values.items():
        source = source_of(reference_of(value))
        if source is not None:
            yield name, *source


def required_by(task: Mapping[str, Any]) -> list[str]:
    """The tasks a task requires, by its own word and because of its inputs; each once."""
    values = task.get("input_values") or {}
    return list(dict.fromkeys([*(task.get("requires") or ()), *(source for _, source, _ in references(values))]))


def edges(tasks: Tasks) -> dict[str, list[str]]:
    """By task, the tasks it requires."""
    return {name: required_by(task) for name, task in tasks.items()}


def dependants(tasks: Tasks, names: Set[str]) -> set[str]:
    """All that depends on these, directly or through others."""
    by_required = turned(edges(tasks))
    found: set[str] = set()
    ahead = list(names)
    while ahead:
        new = set(by_required.get(ahead.pop(), ())) - found
        found |= new
        ahead += new
    return found


def bridged(required: Mapping[str, Collection[str]], kept: Set[str]) -> dict[str, list[str]]:
    """The edges among the kept tasks: where one in between has nothing to run, what it requires takes its place."""
    through: dict[str, dict[str, None]] = {}  # by task, the kept ones next to it, each once
    for name in graphlib.TopologicalSorter(required).static_order():
        through[name] = {}
        for other in required[name]:
            through[name].update({other: None} if other in kept else through[other])
    return {name: list(through[name]) for name in kept}


def turned(required: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """The same edges the other way round, for what is taken down."""
    found: dict[str, list[str]] = {name: [] for name in required}
    for name, others in required.items():
        for other in others:
            found[other].append(name)
    return found


def mistakes(tasks: Tasks, outputs: Mapping[str, Collection[str] | None]) -> Iterator[str]:
    """What is wrong with the edges, in words. ``outputs`` are those a task's config declares, None if not known yet."""
    wrong = list(_wrong_references(tasks, outputs))
    yield from wrong
    if wrong:
        return
    try:
        graphlib.TopologicalSorter(edges(tasks)).prepare()
    except graphlib.CycleError as cycle:
        yield f"tasks require each other in a circle: {' -> '.join(reversed(cycle.args[1]))}"


def _wrong_references(tasks: Tasks, outputs: Mapping[str, Collection[str] | None]) -> Iterator[str]:
    for name, task in tasks.items():
        for other in task.get("requires") or ():
            if other not in tasks:
                yield f"task {name} requires {other}, which is no task of this workflow"
        for key, value in (task.get("input_values") or {}).items():
            source = reference_of(value)
            if source is not None:
                yield from _wrong_source(f"task {name}, input {key}", source, tasks, outputs)


def _wrong_source(
    where: str, source: Any, tasks: Tasks, outputs: Mapping[str, Collection[str] | None]
) -> Iterator[str]:
    names = source_of(source)
    if names is None:
        yield f"{where}: get_output takes [task, output], two names"
        return
    other, output = names
    declared = outputs.get(other)
    if other not in tasks:
        yield f"{where}: get_output of {other}, which is no task of this workflow"
    elif declared is not None and output not in declared:
        known = ", ".join(sorted(declared)) or "none"
        yield f"{where}: task {other} has no output {output}; its config declares {known}"


def inlined(values: Mapping[str, Json], history: History, names: Set[str] | None = None) -> dict[str, Json]:
    """The values with each reference, or those to these tasks, replaced by what the task in effect has said."""
    found = dict(values)
    for key, source, output in references(values):
        if names is None or source in names:
            found[key] = _said(history, source, output)
    return found


class Given:
    """The outputs that tasks were given: what the API shows of a task has references, by names that move on."""

    def __init__(self, listed: Iterable[Task]) -> None:
        """``listed`` are all tasks of the workflow, detached ones too."""
        self._applied = [task for task in listed if task["action"] in APPLYING and not task.get("undo_of")]
        self._then: dict[str, History] = {}

    def outputs(self, task: Task | None) -> dict[str, Json]:
        """The inputs of the task that came from outputs, with the values of the runs that it was added after."""
        if task is None:
            return {}
        values = task.get("input_values") or {}
        referring = {name: value for name, value in values.items() if reference_of(value) is not None}
        if not referring:
            return {}
        then = self._until(task["created_at"])
        return inlined(referring, then, {slot.task for slot in then.tasks})

    def _until(self, moment: str) -> History:
        """What held the names then: a run takes them from the one before."""
        if moment not in self._then:
            found: dict[Slot, list[Task]] = {}
            for task in self._applied:
                if task["created_at"] <= moment:
                    found.setdefault(slot_of(task), []).append(task)
            self._then[moment] = History(found)
        return self._then[moment]


def _said(history: History, source: str, output: str) -> Json:
    one = history.in_effect(Slot(source))
    if one is not None and output in (one.get("hidden_outputs") or ()):
        return {GET_OUTPUT: [one["id"], output]}  # only the tasks API may see it
    if one is not None:
        return (one.get("outputs") or {}).get(output)
    members = {slot.member: history.in_effect(slot) for slot in sorted(history.tasks) if slot.task == source}
    hidden = any(output in (task.get("hidden_outputs") or ()) for task in members.values() if task)
    if hidden:
        return None
    return {name: (task.get("outputs") or {}).get(output) for name, task in members.items() if task}
