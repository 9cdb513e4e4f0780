# SPDX-License-Identifier: Apache-2.0
"""Turns: the steps in which a Heat resource of many tasks acts on them, each in few requests whatever their number."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from heat.engine import resource
from heat.objects import stack as stack_object

from heat_workflow import errors
from heat_workflow.client import Client
from heat_workflow.client_plugin import CLIENT_NAME
from heat_workflow.resources import definitions, slots, telling
from heat_workflow.resources.runs import APPLYING, Run, Runs, find_runs, save_runs
from heat_workflow.resources.slots import UNFINISHED, History, Slot
from heat_workflow.resources.waiting import TURNED_BACK
from heat_workflow.shapes import Task, TaskBody

LOG = logging.getLogger(__name__)


@dataclasses.dataclass
class Turn:
    """One action on its way. What it has begun is kept, so that after an outage it decides anew and goes on."""

    action: str
    steps: Iterator[None] | None = None
    begun: list[str] = dataclasses.field(default_factory=list)
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)  # by task id, how many were told of
    adopted: set[str] = dataclasses.field(default_factory=set)  # ids of tasks that were under way when it began
    since: float = dataclasses.field(default_factory=time.monotonic)
    until: float = 0.0  # how long the present call may hold
    told: bool = False

    @property
    def applies(self) -> bool:
        """Whether the action brings what the template wants into effect."""
        return self.action in APPLYING

    @property
    def patience(self) -> float:
        """Seconds left to the present call."""
        return max(0.0, self.until - time.monotonic())


@dataclasses.dataclass
class Unclaimed:
    """Which undos no agent takes for longer than ``most`` seconds. Those that wait for another undo have time."""

    most: float
    held: dict[str, str] = dataclasses.field(default_factory=dict)  # by the id of one that was late, what it waited for
    since: dict[str, float] = dataclasses.field(default_factory=dict)

    def late(self, live: Iterable[Task], now: float) -> list[Task]:
        """Those of the unfinished undos that are late now; times are seconds of one clock."""
        idle = {task["id"]: task for task in live if task["state"] in ("ready", "stalled")}
        self.since = {task_id: self.since.get(task_id, now) for task_id in idle}
        late = [task for task_id, task in idle.items() if now - self.since[task_id] > self.most]
        self.held.update({task["id"]: task.get("waiting_for") or "" for task in late})
        return late


class TurnTaker(resource.Resource):  # type: ignore[misc]
    """A resource that acts on many tasks. Subclasses say where they are and how they are sent."""

    default_client_name = CLIENT_NAME

    properties: Any
    _known: History | None = None  # what is attached, once nothing of it changes any more
    _latest: History | None = None  # what was attached when it was looked at last while waiting

    def _workflow_id(self) -> str:
        raise NotImplementedError

    def _list(self, wait: float) -> Iterable[Task]:
        """The tasks, those of others among them; once they are finished if that is sooner than ``wait``."""
        raise NotImplementedError

    def _send(self, requests: list[TaskBody]) -> None:
        raise NotImplementedError

    def _completed(self, chosen: Mapping[Slot, TaskBody]) -> Mapping[Slot, TaskBody]:
        """The bodies as they are sent."""
        return chosen

    def _waits(self) -> bool:
        """Whether an action waits for its tasks; else they are only recorded."""
        return True

    def _is_settled(self) -> bool:
        """Whether what follows from the end of the tasks has come about too."""
        return True

    # -- steps: each yields once for every "not yet" -----------------------------------------------------------

    def _run(self, turn: Turn, chosen: Mapping[Slot, TaskBody]) -> Iterator[None]:
        """Add the tasks under a new run, which is recorded first, and wait until they are finished."""
        self._latest = None
        if chosen:
            run_id = str(uuid.uuid4())
            turn.begun.append(run_id)
            old = find_runs(self) or Runs(self._workflow_id())
            save_runs(self, dataclasses.replace(old, runs=(*old.runs, Run(run_id, turn.action, ""))))
            self._known = None
            self._send(requests_of(self._completed(chosen), run_id))
            if self._waits() and not turn.patience:
                yield  # nobody waits in a handler, and nothing has ended yet
        while self._waits() and not self._is_over(turn):
            yield

    def _is_over(self, turn: Turn) -> bool:
        """Whether nothing is left to wait for, after at most the time that this call may take."""
        self._latest = self._history(turn.patience)
        self._say_of_attempts(turn, self._latest)
        live = [task for task in self._latest.live() if not self._gives_up(task)]
        if not live and self._is_settled():
            return True
        self._say_what_holds(turn, live)
        self._obey_stack(live)
        return False

    def _gives_up(self, task: Task) -> bool:
        """A dead server would hold up the deletion of its stack otherwise."""
        return bool(task["action"] == self.DELETE) and slots.is_lost(task)

    def _end(self, turn: Turn, tasks: Iterable[Task]) -> Iterator[None]:
        """Cancel those that have not ended, and wait for that."""
        live = [task for task in tasks if task["state"] in UNFINISHED]
        while live:
            live = [task for task in self._act("cancel", live) if task["state"] in UNFINISHED]
            if live and not turn.patience:
                yield
            elif live:
                self._api().get_task(self._workflow_id(), live[0]["id"], wait=turn.patience)

    def _take_back(self, turn: Turn, tasks: Iterable[Task]) -> Iterator[None]:
        """Undo the tasks and wait for it; what fails or finds no agent is told of in an event, and the rest goes on."""
        chosen = [task for task in tasks if task.get("undo")]
        ids = {undo["id"] for undo in self._act("undo", chosen)}
        unclaimed = Unclaimed(self.client_plugin().delete_wait())
        while ids:
            undos = [task for task in self._api().list_tasks(self._workflow_id()) if task["id"] in ids]
            live = [undo for undo in undos if undo["state"] in UNFINISHED]
            for undo in undos:
                if undo["state"] not in UNFINISHED:
                    ids.discard(undo["id"])
                    self._say_of_undo(undo, unclaimed)
            if late := unclaimed.late(live, time.monotonic()):
                self._act("cancel", late)
            elif live and turn.patience:
                # The last ends last where one waits for the other: each look at all of them costs as many as there are.
                self._api().get_task(self._workflow_id(), live[-1]["id"], wait=turn.patience)
            elif live:
                yield

    def _say_of_undo(self, undo: Task, unclaimed: Unclaimed) -> None:
        held = unclaimed.held.get(undo["id"])
        if undo["state"] == "cancelled" and held is not None:
            waited = f"; it waited for {held}" if held else ""
            limit = f"{unclaimed.most:g} s ({slots.HURRY})"
            self._say(f"{undo['name']} was skipped: no agent took it within {limit}{waited}")
        elif said := telling.undo_failure(undo):
            self._say(said)

    # -- while waiting -----------------------------------------------------------------------------------------

    def _say_what_holds(self, turn: Turn, live: Sequence[Task]) -> None:
        """Once nobody has begun some of it for a while, one event that says what it waits for."""
        held = [task for task in live if task["state"] in ("waiting", "ready", "stalled") and task.get("waiting_for")]
        if not turn.told and held and time.monotonic() - turn.since > self.client_plugin().waiting_event_after():
            turn.told = True
            self._say(slots.listed([f"task {task['name']} waits for {task['waiting_for']}" for task in held]))

    def _obey_stack(self, live: Sequence[Task]) -> None:
        """End what runs if the stack has turned back since: Heat itself lets what is in progress finish."""
        row = stack_object.Stack.get_by_id(self.context, self.stack.id)
        if row and row.current_traversal != self.stack.current_traversal and row.action in TURNED_BACK:
            self._act("cancel", live)

    def _say_of_attempts(self, turn: Turn, history: History) -> None:
        """In an event, each attempt that failed and is followed by another."""
        tasks = (task for slot in history.tasks for task in history.tasks[slot] if self._is_of(turn, slot, task))

        def attempts(task: Task) -> telling.Attempts:
            return self._api().list_attempts(self._workflow_id(), task["id"])

        if said := telling.news_of_attempts(tasks, turn.attempts, attempts):
            self._say(slots.listed(said))

    def _is_of(self, turn: Turn, slot: Slot, task: Task) -> bool:
        """Whether this action has begun the task, or found it under way."""
        return task["id"] in turn.adopted or any(slot.task_id(run_id) == task["id"] for run_id in turn.begun)

    def _say(self, what: str) -> None:
        """Tell the stack's owner, in an event beside the state as it is."""
        self._add_event(self.action, self.status, what)

    # -- the API -----------------------------------------------------------------------------------------------

    def _api(self) -> Client:
        client: Client = self.client_plugin().client_for(self.stack)
        return client

    def _act(self, word: str, tasks: Iterable[Task]) -> list[Task]:
        """One word on many tasks: cancel, detach, remove or undo."""
        ids = list(dict.fromkeys(task["id"] for task in tasks))
        return self._api().act_on_tasks(self._workflow_id(), word, ids) if ids else []

    def _history(self, wait: float = 0) -> History:
        """What is attached to the resource, as the API has it."""
        runs = find_runs(self)
        if runs is None:
            return History({})
        with contextlib.suppress(errors.NotFound):
            return History.of(self._list(wait), [run.task_id for run in runs.runs])
        return History({})

    def _last_known(self) -> History:
        """The same for attributes, asked for once when nothing changes any more."""
        history = self._known or self._history()
        self._known = None if any(history.live()) else history
        return history

    def _forget_runs(self, history: History) -> None:
        """Drop the runs from the record of which nothing is attached any more."""
        runs = find_runs(self)
        found = {(slot, task["id"]) for slot, tasks in history.tasks.items() for task in tasks}
        if runs is not None:
            kept = [run for run in runs.runs if any(slot.task_id(run.task_id) == task_id for slot, task_id in found)]
            save_runs(self, dataclasses.replace(runs, runs=tuple(kept)))

    def _begun(self, turn: Turn, history: History) -> Set[Slot]:
        """Where this action has put a task already, before an outage made it begin again.

        A DELETE for what an update leaves is not what the update is to run there.
        """
        newest = {slot: task for slot in history.tasks if (task := history.newest(slot))}
        return {
            slot
            for slot, task in newest.items()
            if task["action"] == turn.action or (turn.applies and task["action"] in APPLYING)
            if any(slot.task_id(run_id) == task["id"] for run_id in turn.begun)
        }


def requests_of(chosen: Mapping[Slot, TaskBody], run_id: str) -> list[TaskBody]:
    """One request per task, and one for the members of a fan-out that share everything but their servers."""
    found: dict[tuple[str, str], TaskBody] = {}
    prints: dict[tuple[int, ...], str] = {}
    for slot, body in chosen.items():
        key = (slot.task, _fingerprint(body, prints) if slot.member else "")
        request = found.setdefault(key, {**body, "id": slot.request_id(run_id)})
        if slot.member:
            request.setdefault("servers", {})[slot.member] = body["server"]
            request.pop("server", None)
    return list(found.values())


def _fingerprint(body: TaskBody, known: dict[tuple[int, ...], str]) -> str:
    """The same for bodies that differ in their server only. Bodies made of the same parts are not read twice."""
    parts = {name: value for name, value in body.items() if name != "server"}
    key = tuple(id(value) for value in parts.values())
    if key not in known:
        known[key] = definitions.digest_of(parts)
    return known[key]
