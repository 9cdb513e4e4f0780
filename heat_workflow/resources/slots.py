# SPDX-License-Identifier: Apache-2.0
"""Slots: the places of a group or a workflow in which tasks run, and which run of each counts."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from heat_workflow.resources import reasons
from heat_workflow.resources.runs import APPLYING
from heat_workflow.shapes import Task, TaskBody

UNFINISHED = frozenset({"waiting", "ready", "leased", "stalled", "cancelling"})
REUSABLE = frozenset({"waiting", "ready", "leased", "stalled", "succeeded"})
FAILED = frozenset({"failed", "timed_out"})
TRIED = frozenset({*FAILED, "cancelled"})
HURRY = "[heat_workflow] delete_wait of heat-engine"
REASONS_SHOWN = 10  # failures a status reason tells in full: Heat keeps reasons in a column, people read one screen


@dataclasses.dataclass(frozen=True, order=True)
class Slot:
    """A task by its name, and of a fan-out the member by its name too."""

    task: str
    member: str = ""

    def task_id(self, run_id: str) -> str:
        """The id of the task that a run adds here: every id follows from the run's, which is kept."""
        request = self.request_id(run_id)
        return str(uuid.uuid5(uuid.UUID(request), self.member)) if self.member else request

    def request_id(self, run_id: str) -> str:
        """The id under which the run asks for the task, or for the fan-out."""
        return str(uuid.uuid5(uuid.UUID(run_id), self.task))


def slot_of(task: Task) -> Slot:
    fanout = task.get("fanout")
    return Slot(fanout, task["name"][len(fanout) + 1 :]) if fanout else Slot(task["name"])


@dataclasses.dataclass(frozen=True)
class History:
    """The tasks that are attached to a resource, by slot and oldest first."""

    tasks: Mapping[Slot, Sequence[Task]]

    @classmethod
    def of(cls, listed: Iterable[Task], run_ids: Iterable[str]) -> History:
        """From what the API lists: detached ones, undos and tasks of other resources are left out."""
        known, found = list(run_ids), dict[Slot, list[Task]]()
        for task in listed:
            slot = slot_of(task)
            if not task.get("detached") and any(slot.task_id(run_id) == task["id"] for run_id in known):
                found.setdefault(slot, []).append(task)
        return cls(found)

    def newest(self, slot: Slot) -> Task | None:
        tasks = self.tasks.get(slot)
        return tasks[-1] if tasks else None

    def applied(self, slot: Slot) -> Task | None:
        """The newest that put a definition into effect, or was to."""
        return next((task for task in reversed(self.tasks.get(slot, ())) if task["action"] in APPLYING), None)

    def in_effect(self, slot: Slot) -> Task | None:
        """The newest of those that did so: it is what there is to undo."""
        applied = (task for task in reversed(self.tasks.get(slot, ())) if task["action"] in APPLYING)
        return next((task for task in applied if task["state"] == "succeeded"), None)

    def deployed(self, slot: Slot) -> Task | None:
        """What is in effect, else the newest that was tried: it may have left something behind."""
        applied = (task for task in reversed(self.tasks.get(slot, ())) if task["action"] in APPLYING)
        tried = (task for task in applied if task["attempt"] and task["state"] in TRIED)
        return self.in_effect(slot) or next(tried, None)

    def ran(self, slot: Slot) -> Task | None:
        """The newest that an agent took, else the newest: its values are the slot's."""
        tasks = self.tasks.get(slot, ())
        return next((task for task in reversed(tasks) if task.get("attempt")), self.newest(slot))

    def live(self) -> Iterator[Task]:
        return (task for tasks in self.tasks.values() for task in tasks if task["state"] in UNFINISHED)

    def superseded(self) -> Iterator[Task]:
        """Those that nobody needs any more."""
        for slot, tasks in self.tasks.items():
            kept = (self.newest(slot), self.applied(slot), self.in_effect(slot), self.ran(slot))
            yield from (task for task in tasks if task not in kept and task["state"] not in UNFINISHED)


def is_lost(task: Task) -> bool:
    """Whether nobody is there to run the task: no agent took it, or the one that did is silent."""
    return task["state"] == "stalled" or (task["state"] == "timed_out" and not task["attempt"])


def digest_of_task(task: Task) -> str | None:
    """What the resource gave the task to know it again by."""
    return (task.get("heat") or {}).get("digest")


def does_already(task: Task | None, body: TaskBody) -> bool:
    """Whether the task is what the body asks for, and has not failed."""
    if task is None or task["state"] not in REUSABLE or task["action"] != body["action"]:
        return False
    return digest_of_task(task) == digest_of_task(body)  # type: ignore[arg-type]


def why(task: Task) -> str:
    """In what way a task did not succeed: the exit code with the agent's reason, or what the API says."""
    if task["state"] == "failed":
        return reasons.how_it_failed(task)
    return said_once(task["state"].replace("_", " "), task["status_reason"])


def said_once(what: str, reason: str) -> str:
    """What happened and why, in words that do not begin twice with the same."""
    rest = reason.removeprefix(what).lstrip(":;, ") if reason.startswith(what) else reason
    return f"{what}: {rest}" if rest else what


def why_lost(task: Task, most: float) -> str:
    """Why nobody ran the task. ``most`` is how long heat-engine lets a deletion wait, in seconds: where that was the
    limit, it is no pickup_timeout of the author's."""
    reason = task["status_reason"]
    if task.get("pickup_timeout") == most:
        limit = f"({HURRY}: a dead server does not hold up what is deleted)"
        return reason.replace("(pickup_timeout)", limit)
    return reason


def listed(reasons: Sequence[str]) -> str:
    """The first of the reasons, and how many more there are."""
    more = f"; and {len(reasons) - REASONS_SHOWN} more" if len(reasons) > REASONS_SHOWN else ""
    return "; ".join(reasons[:REASONS_SHOWN]) + more


def by_name(values: Mapping[Slot, Any]) -> dict[str, Any]:
    """A map by task; what fan-outs have is a map by server in it."""
    found: dict[str, Any] = {}
    for slot, value in values.items():
        if slot.member:
            found.setdefault(slot.task, {})[slot.member] = value
        else:
            found[slot.task] = value
    return found


def outputs_by_name(tasks: Mapping[Slot, Task]) -> dict[str, Any]:
    """A map by task and output; what fan-outs say is a map by server in it. Hidden outputs are left out."""
    found: dict[str, Any] = {}
    for slot, task in tasks.items():
        of_task = found.setdefault(slot.task, {})
        for name, value in (task.get("outputs") or {}).items():
            if name in (task.get("hidden_outputs") or ()):
                continue
            if slot.member:
                of_task.setdefault(name, {})[slot.member] = value
            else:
                of_task[name] = value
    return found
