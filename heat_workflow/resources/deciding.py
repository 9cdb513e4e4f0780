# SPDX-License-Identifier: Apache-2.0
"""Deciding: what an update of many tasks runs, takes back and lets go, from what is wanted and what there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Set

from heat_workflow.resources.slots import REUSABLE, History, Slot, digest_of_task
from heat_workflow.shapes import Task, TaskBody

CREATE, UPDATE = "CREATE", "UPDATE"
Touched = Callable[[Set[Slot], Set[Slot]], Set[Slot]]  # (stale, gone) -> all that has to run because of these


@dataclasses.dataclass(frozen=True)
class Aim:
    """What the template wants: its slots, and what there is to run in them under either action."""

    slots: Set[Slot]
    creating: Mapping[Slot, TaskBody]
    updating: Mapping[Slot, TaskBody]
    replacing: Callable[[Slot, TaskBody, Task], bool]  # whether the change asks for CREATE in place of UPDATE
    touched: Touched

    def body(self, slot: Slot) -> TaskBody | None:
        return self.creating.get(slot) or self.updating.get(slot)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What to do, in this order."""

    leaving: Mapping[Slot, Task]  # in effect now, on a server they leave or under inputs that ask for it
    turning: tuple[Task, ...]  # in effect now, and taken back by a rollback before the old definition runs
    gone: Set[Slot]  # not in the template any more
    chosen: Mapping[Slot, TaskBody]  # what to run


def decide(aim: Aim, history: History, begun: Set[Slot], rolling_back: bool) -> Decision:
    """Run what never ran, failed or changed, and what depends on that; what is ``begun`` already is left alone."""
    gone = history.tasks.keys() - aim.slots
    stale = {slot for slot in aim.slots if _is_stale(aim, history, slot)}
    stale = set(aim.touched(stale, gone)) - begun
    leaving, turning, chosen = {}, [], {}
    for slot in sorted(gone | stale):
        task = history.in_effect(slot)
        anew = slot in gone or (task is not None and _leaves(aim, slot, task))
        if task is not None and anew:
            leaving[slot] = task
        elif task is not None and rolling_back and task is history.applied(slot):
            turning.append(task)
        body = None if slot in gone else _body(aim, history, slot, anew)
        if body is not None:
            chosen[slot] = body
    return Decision(leaving, tuple(turning), gone, chosen)


def _is_stale(aim: Aim, history: History, slot: Slot) -> bool:
    body, applied = aim.body(slot), history.applied(slot)
    if body is None:
        return False
    if applied is None or applied["state"] not in REUSABLE or applied.get("server") != body.get("server"):
        return True
    return digest_of_task(applied) != digest_of_task(body)  # type: ignore[arg-type]


def _leaves(aim: Aim, slot: Slot, task: Task) -> bool:
    body = aim.body(slot)
    if body is None:
        return False
    return task.get("server") != body.get("server") or aim.replacing(slot, body, task)


def _did(task: Task, action: str) -> bool:
    return (task["action"], task["state"]) == (action, "succeeded")


def _body(aim: Aim, history: History, slot: Slot, anew: bool) -> TaskBody | None:
    """CREATE until one has succeeded there, UPDATE from then on."""
    before = () if anew else history.tasks.get(slot, ())
    created = any(task["action"] == UPDATE or _did(task, CREATE) for task in before)
    return (aim.updating if created else aim.creating).get(slot)
