# SPDX-License-Identifier: Apache-2.0
"""Deciding: what an update runs, takes back and lets go, from what is wanted, what was wanted and what there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Set

from heat_workflow.resources.slots import REUSABLE, History, Slot, digest_of_task
from heat_workflow.shapes import Task, TaskBody

CREATE, UPDATE, DELETE = "CREATE", "UPDATE", "DELETE"
Touched = Callable[[Set[Slot], Set[Slot]], Set[Slot]]  # (stale, gone) -> all that has to run because of these


@dataclasses.dataclass(frozen=True)
class Aim:
    """What the template wants: where, and what there is to run there under either action."""

    places: Mapping[Slot, str | None]  # by slot its server, None where any agent will do
    creating: Mapping[Slot, TaskBody]
    updating: Mapping[Slot, TaskBody]
    replacing: Callable[[Slot, TaskBody, Task], bool]  # whether the change asks for CREATE in place of UPDATE
    touched: Touched

    def body(self, slot: Slot) -> TaskBody | None:
        return self.creating.get(slot) or self.updating.get(slot)


@dataclasses.dataclass(frozen=True)
class Standing:
    """What the last template that was brought into effect wanted of a slot."""

    server: str | None
    creates: bool  # whether its creation had something to run
    digest: str | None  # of that work, None if no action but DELETE had any, or nobody knows any more
    updates: bool = True  # whether an update has something to run


@dataclasses.dataclass(frozen=True)
class Left:
    """A slot as it is left: because it is gone, is on another server now, or an input asks for a new creation."""

    server: str | None
    task: Task | None = None  # what was deployed there; None where no creation and no update had anything to run
    parting: Task | None = None  # the DELETE that was begun for it before an outage

    @property
    def in_effect(self) -> Task | None:
        """What there is to undo."""
        return self.task if self.task is not None and self.task["state"] == "succeeded" else None


@dataclasses.dataclass(frozen=True)
class Decision:
    """What to do, in this order."""

    ending: tuple[Task, ...]  # of slots that are gone, are left or run again; those unfinished are ended first
    leaving: Mapping[Slot, Left]
    turning: tuple[Task, ...]  # in effect now, and taken back by a rollback before the old definition runs
    gone: Set[Slot]  # not in the template any more
    chosen: Mapping[Slot, TaskBody]  # what to run
    judged: Set[Slot]  # whose newest task says whether this succeeded


def next_action(applied: Iterable[tuple[str, str]], idle: bool) -> str:
    """CREATE until one has succeeded, UPDATE from then on; and after a creation that had nothing to run (``idle``).

    ``applied`` are the actions and states of the tasks of these two actions.
    """
    done = idle or any(action == UPDATE or (action, state) == (CREATE, "succeeded") for action, state in applied)
    return UPDATE if done else CREATE


def decide(
    aim: Aim, before: Mapping[Slot, Standing], history: History, begun: Set[Slot], rolling_back: bool
) -> Decision:
    """Run what never ran, failed or changed, and what depends on that; what is ``begun`` already is left alone."""
    gone = (history.tasks.keys() | before.keys()) - aim.places.keys()
    leaving = {slot: left for slot in sorted(gone) if (left := leaves(before, history, slot))}
    moved = {slot: left for slot in sorted(aim.places.keys() - begun) if (left := _moves(aim, before, history, slot))}
    stale = {slot for slot in aim.places if _is_stale(aim, before, history, slot)}
    stale = set(aim.touched(stale | moved.keys(), gone)) - begun
    turning, chosen = [], {}
    for slot in sorted(stale):
        applied = history.applied(slot)
        if slot not in moved and rolling_back and applied is not None and applied is history.in_effect(slot):
            turning.append(applied)
        body = _body(aim, before, history, slot, slot in moved)
        if body is not None:
            chosen[slot] = body
    judged = {slot for slot in aim.places if aim.body(slot) and (slot in chosen or slot not in stale)}
    leaving.update(moved)
    over = gone | leaving.keys() | chosen.keys()
    partings = {left.parting["id"] for left in leaving.values() if left.parting}
    ending = (task for slot in sorted(over) for task in history.tasks.get(slot, ()) if task["id"] not in partings)
    return Decision(tuple(ending), leaving, tuple(turning), gone, chosen, judged)


def leaves(before: Mapping[Slot, Standing], history: History, slot: Slot) -> Left | None:
    """The slot as it is left behind, None if nothing was ever deployed there."""
    task, standing = history.deployed(slot), before.get(slot)
    if task is not None:
        return Left(task.get("server"), task, _parting(history, slot, task))
    if standing is None or standing.creates:
        return None
    return Left(standing.server, None, _parting(history, slot, None))


def _parting(history: History, slot: Slot, task: Task | None) -> Task | None:
    """The DELETE that came after what was deployed."""
    tasks = list(history.tasks.get(slot, ()))
    since = tasks[tasks.index(task) + 1 :] if task is not None else tasks
    return next((one for one in reversed(since) if one["action"] == DELETE and one["state"] in REUSABLE), None)


def _moves(aim: Aim, before: Mapping[Slot, Standing], history: History, slot: Slot) -> Left | None:
    """The slot as it was, if it stays in the template and is created anew all the same."""
    left = leaves(before, history, slot)
    if left is None:
        return None
    body = aim.body(slot)
    anew = body is not None and left.in_effect is not None and aim.replacing(slot, body, left.in_effect)
    return left if anew or left.server != aim.places[slot] else None


def _is_idle(aim: Aim, before: Mapping[Slot, Standing], slot: Slot) -> bool:
    """Whether the slot is there already, and its creation had nothing to run."""
    standing = before.get(slot)
    return standing is not None and not standing.creates and standing.server == aim.places[slot]


def _is_stale(aim: Aim, before: Mapping[Slot, Standing], history: History, slot: Slot) -> bool:
    body, applied = aim.body(slot), history.applied(slot)
    if body is None:
        return False
    digest = digest_of_task(body)  # type: ignore[arg-type]
    if applied is None:
        return not _is_idle(aim, before, slot) or before[slot].digest != digest
    if applied["state"] not in REUSABLE or applied.get("server") != aim.places[slot]:
        return True
    return digest_of_task(applied) != digest


def _body(aim: Aim, before: Mapping[Slot, Standing], history: History, slot: Slot, anew: bool) -> TaskBody | None:
    if anew:
        return aim.creating.get(slot)
    applied = ((task["action"], task["state"]) for task in history.tasks.get(slot, ()))
    action = next_action(applied, _is_idle(aim, before, slot))
    return (aim.updating if action == UPDATE else aim.creating).get(slot)
