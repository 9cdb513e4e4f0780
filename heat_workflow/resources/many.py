# SPDX-License-Identifier: Apache-2.0
"""Many: how a Heat resource of many tasks brings an action about, step after step, in few requests."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from heat.common import exception
from heat.engine import resource
from heat.objects import stack as stack_object

from heat_workflow import errors
from heat_workflow.client import Client
from heat_workflow.client_plugin import CLIENT_NAME
from heat_workflow.resources import slots, undoing
from heat_workflow.resources.runs import Run, Runs, find_runs, save_runs
from heat_workflow.resources.slots import UNFINISHED, History, Slot
from heat_workflow.shapes import Json, Task, TaskBody

LOG = logging.getLogger(__name__)

POLL = 5.0  # seconds one check_ may hold: Heat looks for a cancel only between two checks
CLEAN_UP_WAIT = 60.0  # seconds an undo or a DELETE task waits for an agent; then it is skipped
SAY_AFTER = 60.0  # seconds after which a stack event says what is waited for
TURNED_BACK = frozenset({"ROLLBACK", "DELETE"})
SALT_KEY = "heat_workflow_salt"
RETRY_KEY = "heat_workflow_retry"  # in the data of a COMPLETE resource with failures: the next update tries them again


@dataclasses.dataclass
class Turn:
    """One action on its way. What it has begun is kept, so that after an outage it decides anew and goes on."""

    action: str
    steps: Iterator[None] | None = None
    begun: list[str] = dataclasses.field(default_factory=list)
    since: float = dataclasses.field(default_factory=time.monotonic)
    told: bool = False


class ManyTasks(resource.Resource):  # type: ignore[misc]
    """A resource whose actions each add many tasks. Subclasses say what is wanted, and how it is sent and watched.

    Nothing is kept in a handler but the place where it stands: an action begins by looking at what the API has. So
    Heat may end the engine anywhere, and the next update goes on with what is alive.
    """

    default_client_name = CLIENT_NAME
    always_replace_on_check_failed = False
    adds_tasks = True  # marks the types that edges between tasks end at

    properties: Any
    _known: History | None = None  # what is attached, once nothing of it can change any more

    def _wanted(self, action: str) -> Mapping[Slot, TaskBody]:
        """What this action runs, by slot; the body of a fan-out stands for each of its members."""
        raise NotImplementedError

    def _kept(self) -> Set[Slot]:
        """The slots the template has, whether this action runs anything in them or not."""
        raise NotImplementedError

    def _requests(self, chosen: Mapping[Slot, TaskBody], run_id: str) -> list[TaskBody]:
        """The bodies to send for the chosen slots, with their ids."""
        raise NotImplementedError

    def _send(self, requests: list[TaskBody]) -> None:
        raise NotImplementedError

    def _list(self, wait: float) -> Iterable[Task]:
        """The tasks, those of other resources among them, perhaps once they are finished."""
        raise NotImplementedError

    def _workflow_id(self) -> str:
        raise NotImplementedError

    def _judge(self, history: History, ran: Set[Slot], action: str) -> None:
        """Raise the error that says in words what went wrong, if anything did."""
        raise NotImplementedError

    def _awaited(self, requests: Sequence[TaskBody]) -> bool:
        return True

    def _touched(self, stale: Set[Slot], gone: Set[Slot], wanted: Set[Slot]) -> Set[Slot]:
        """What has to run because these do or go."""
        return stale

    def _must_begin_anew(self, slot: Slot, body: TaskBody, task: Task) -> bool:
        """Whether the change asks for the old to be taken back and the new to be created, instead of an update."""
        return False

    # -- handlers ----------------------------------------------------------------------------------------------

    def create(self) -> Iterator[Any]:
        """As Heat's. The physical id is known before anything is done, so Heat's first write of the row has it."""
        self.resource_id = self.uuid
        yield from super().create()

    def handle_create(self) -> Turn:
        return self._begin(self.CREATE)

    def handle_suspend(self) -> Turn:
        return self._begin(self.SUSPEND)

    def handle_resume(self) -> Turn:
        return self._begin(self.RESUME)

    def handle_delete(self) -> Turn:
        return self._begin(self.DELETE)

    def handle_update(self, json_snippet: Any, tmpl_diff: Any, prop_diff: Any) -> Turn:
        self.properties = json_snippet.properties(self.properties_schema, self.context)
        self.update_policy = json_snippet.update_policy(self.update_policy_schema, self.context)
        return self._begin(self.UPDATE)

    def check_create_complete(self, turn: Turn) -> bool:
        return self._advance(turn)

    check_update_complete = check_create_complete
    check_suspend_complete = check_create_complete
    check_resume_complete = check_create_complete
    check_delete_complete = check_create_complete

    def needs_replace_failed(self) -> bool:
        """Never: a failed resource may have live tasks, and a replacement would start others beside them."""
        return False

    def _needs_update(self, *args: Any, **kwargs: Any) -> bool:
        changed: bool = super()._needs_update(*args, **kwargs)
        return changed or self.status == self.FAILED or RETRY_KEY in self.data()

    def handle_create_cancel(self, turn: Turn) -> None:
        """Heat stopped waiting (delete, or its time is up): the guests are to stop too."""
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            self._act("cancel", self._history().live())

    handle_update_cancel = handle_create_cancel
    handle_delete_cancel = handle_create_cancel
    handle_suspend_cancel = handle_create_cancel
    handle_resume_cancel = handle_create_cancel

    def handle_preempt(self) -> None:
        """Another traversal wants the resource: if the stack turned back, what runs for the old one is to end."""
        if self.stack.action in TURNED_BACK:
            self._act("cancel", self._history().live())

    # -- one action --------------------------------------------------------------------------------------------

    def _begin(self, action: str) -> Turn:
        turn = Turn(action)
        self._advance(turn, holding=False)
        return turn

    def _advance(self, turn: Turn, holding: bool = True) -> bool:
        """Take the next step; False for "not yet", also while the API is out of reach."""
        self._holds_until = time.monotonic() + POLL if holding else 0.0
        try:
            turn.steps = turn.steps or self._steps(turn)
            next(turn.steps)
        except StopIteration:
            return True
        except errors.HeatWorkflowError as failure:
            turn.steps = None  # what was decided may not hold any more
            if not self._is_not_yet(failure):
                raise
            LOG.info("resource %s of stack %s waits for the tasks API: %s", self.name, self.stack.id, failure)
        return False

    def _is_not_yet(self, failure: errors.HeatWorkflowError) -> bool:
        """Whether to ask again: the API is out of reach, or the workflow is on its way down and will be back."""
        busy = isinstance(failure, errors.Conflict) and failure.code == "state"
        return busy or bool(self.client_plugin().is_not_yet(failure))

    def _steps(self, turn: Turn) -> Iterator[None]:
        if turn.action == self.DELETE:
            yield from self._delete_steps(turn)
        elif turn.action in (self.SUSPEND, self.RESUME):
            wanted, history = self._wanted(turn.action), self._history()
            yield from self._run(turn, self._not_begun(turn, wanted, history))
            self._judge(self._history(), wanted.keys(), turn.action)
        else:
            yield from self._apply_steps(turn)

    def _apply_steps(self, turn: Turn) -> Iterator[None]:
        """Bring what the template wants into effect: run what changed or failed, take back what goes."""
        history = self._history()
        creating, updating = self._wanted(self.CREATE), self._wanted(self.UPDATE)
        kept = self._kept()
        gone = history.tasks.keys() - kept
        stale = {slot for slot in kept if self._is_stale(slot, creating, updating, history, turn)}
        stale = set(self._touched(stale, gone, kept)) - self._begun_slots(turn, history)
        anew = {slot for slot in stale if self._begins_anew(slot, creating, updating, history)}
        yield from self._end(turn, [task for slot in gone | stale for task in history.tasks.get(slot, ())])
        history = self._history()
        rolling = undoing.is_rolling_back(self)
        leaving = [task for slot in gone | anew if (task := history.in_effect(slot)) and self._leaves(task, slot)]
        back = [task for slot in stale - anew if rolling and (task := history.in_effect(slot))]
        yield from self._take_back(turn, [*leaving, *back])
        self._act("remove", [task for slot in gone for task in history.tasks.get(slot, ())])
        chosen: dict[Slot, TaskBody] = {}
        for slot in sorted(stale):
            action = self._action_for(slot, history, rolling, anew)
            body = (creating if action == self.CREATE else updating).get(slot)
            if body is not None:
                chosen[slot] = body
        yield from self._run(turn, chosen)
        history = self._history()
        self._act("detach", history.superseded())
        self._judge(history, kept & history.tasks.keys(), turn.action)

    def _delete_steps(self, turn: Turn) -> Iterator[None]:
        """End what runs; DELETE tasks where they are wanted, else undo what stays behind; then let go of all."""
        history = self._history()
        yield from self._end(turn, [task for task in history.live() if task["action"] != self.DELETE])
        wanted, history = self._wanted(self.DELETE), self._history()
        undone = [task for slot in history.tasks if slot not in wanted and (task := history.in_effect(slot))]
        if not self.replaced_by:
            yield from self._take_back(turn, [task for task in undone if self._leaves(task, None)])
        left = {slot: body for slot, body in wanted.items() if not self._is_deleted(history.newest(slot))}
        pickup = {slot: min(body.get("pickup_timeout") or CLEAN_UP_WAIT, CLEAN_UP_WAIT) for slot, body in left.items()}
        left = {slot: {**body, "pickup_timeout": pickup[slot]} for slot, body in left.items()}
        yield from self._run(turn, self._not_begun(turn, left, history))
        history = self._history()
        self._judge(history, wanted.keys(), turn.action)
        self._act("detach", [task for tasks in history.tasks.values() for task in tasks])

    def _is_deleted(self, newest: Task | None) -> bool:
        return newest is not None and newest["action"] == self.DELETE and newest["state"] == "succeeded"

    def _is_stale(
        self,
        slot: Slot,
        creating: Mapping[Slot, TaskBody],
        updating: Mapping[Slot, TaskBody],
        history: History,
        turn: Turn,
    ) -> bool:
        """Whether the slot has something to run: it never did, it failed, or it is asked for something else now."""
        body = creating.get(slot) or updating.get(slot)
        applied = history.applied(slot)
        if body is None:
            return False
        same = applied is not None and slots.digest_of_task(applied) == body["heat"].get("digest")
        return not (same and applied is not None and applied["state"] in slots.REUSABLE)

    def _action_for(self, slot: Slot, history: History, rolling: bool, anew: Set[Slot]) -> str:
        """CREATE until one has succeeded on the server, UPDATE from then on."""
        succeeded = history.in_effect(slot)
        return str(self.CREATE if succeeded is None or slot in anew else self.UPDATE)

    def _begins_anew(
        self, slot: Slot, creating: Mapping[Slot, TaskBody], updating: Mapping[Slot, TaskBody], history: History
    ) -> bool:
        body, task = creating.get(slot) or updating.get(slot), history.in_effect(slot)
        return body is not None and task is not None and self._must_begin_anew(slot, body, task)

    def _leaves(self, task: Task, slot: Slot | None) -> bool:
        """Whether the task is to be taken back as it goes: it has an undo, and its server lives on."""
        if not task.get("undo") or (task.get("server") is None and slot is None):
            return bool(task.get("undo") and undoing.is_rolling_back(self))
        return undoing.is_rolling_back(self) or undoing.server_stays(self, task.get("server"))

    # -- steps -------------------------------------------------------------------------------------------------

    def _run(self, turn: Turn, chosen: Mapping[Slot, TaskBody]) -> Iterator[None]:
        """Add the tasks under a new run, which is recorded first, and wait until they are finished."""
        if chosen:
            run_id = str(uuid.uuid4())
            turn.begun.append(run_id)
            old = find_runs(self) or Runs(self._workflow_id())
            save_runs(self, dataclasses.replace(old, runs=(*old.runs, Run(run_id, turn.action, ""))))
            requests = self._requests(chosen, run_id)
            self._send(requests)
            self._known = None
            if not self._awaited(requests):
                return
        while live := [task for task in self._history(POLL).live() if not self._gives_up(turn, task)]:
            yield from self._not_yet(turn, live)

    def _end(self, turn: Turn, tasks: Iterable[Task]) -> Iterator[None]:
        """Cancel those that have not ended, and wait for that."""
        live = [task for task in tasks if task["state"] in UNFINISHED]
        while live:
            live = [task for task in self._act("cancel", live) if task["state"] in UNFINISHED]
            if live:
                self._wait_for(live[0])
                yield

    def _take_back(self, turn: Turn, tasks: Iterable[Task]) -> Iterator[None]:
        """Undo the tasks, and wait for it; one that fails or finds no agent is told of in an event, and no more."""
        chosen = [task for task in tasks if task.get("undo")]
        if not chosen:
            return
        since = time.monotonic()
        while True:
            undos = self._act("undo", chosen)
            live = [undo for undo in undos if undo["state"] in UNFINISHED]
            if not live:
                break
            if time.monotonic() - since > CLEAN_UP_WAIT:
                lost = [undo for undo in live if undo["state"] in ("ready", "stalled")]
                for undo in self._act("cancel", lost):
                    self._say(f"{undo['name']} was skipped: no agent took it within {CLEAN_UP_WAIT:.0f} s")
                if len(lost) == len(live):
                    return
            self._wait_for(live[0])
            yield
        for undo in undos:
            if undo["state"] != "succeeded":
                self._say(f"{undo['name']} on server {undo.get('server')} {slots.why(undo)}")

    def _not_yet(self, turn: Turn, live: Sequence[Task]) -> Iterator[None]:
        self._obey_stack(live)
        waiting = [task for task in live if task["state"] in ("waiting", "ready", "stalled") and task["waiting_for"]]
        if not turn.told and waiting and time.monotonic() - turn.since > SAY_AFTER:
            turn.told = True
            said = [f"task {task['name']} waits for {task['waiting_for']}" for task in waiting]
            self._say(slots.listed(said))
        if time.monotonic() >= self._holds_until:
            yield

    def _gives_up(self, turn: Turn, task: Task) -> bool:
        return turn.action == self.DELETE and slots.is_lost(task)

    def _obey_stack(self, live: Sequence[Task]) -> None:
        """End what runs if the stack has turned back since: Heat itself lets what is in progress finish."""
        row = stack_object.Stack.get_by_id(self.context, self.stack.id)
        if row and row.current_traversal != self.stack.current_traversal and row.action in TURNED_BACK:
            self._act("cancel", live)

    def _wait_for(self, task: Task) -> None:
        with contextlib.suppress(errors.NotFound):
            self._api().get_task(self._workflow_id(), task["id"], wait=POLL)

    def _act(self, word: str, tasks: Iterable[Task]) -> list[Task]:
        ids = list(dict.fromkeys(task["id"] for task in tasks))
        return self._api().act_on_tasks(self._workflow_id(), word, ids) if ids else []

    def _say(self, what: str) -> None:
        """Tell the stack's owner, in an event beside the state as it is."""
        self._add_event(self.action, self.status, what)

    # -- what there is -----------------------------------------------------------------------------------------

    def _api(self) -> Client:
        client: Client = self.client_plugin().client_for(self.stack)
        return client

    def _history(self, wait: float = 0) -> History:
        """What is attached to the resource, as the API has it."""
        runs = find_runs(self)
        run_ids = [run.task_id for run in runs.runs] if runs else []
        if not run_ids:
            return History({})
        try:
            return History.of(self._list(wait), run_ids)
        except errors.NotFound:
            return History({})

    def _finished_history(self) -> History:
        """The same for attributes, asked for once when nothing changes any more."""
        history = self._known or self._history()
        self._known = None if any(history.live()) else history
        return history

    def _begun_slots(self, turn: Turn, history: History) -> Set[Slot]:
        """Where this action has put a task already, before an outage made it begin again."""
        newest = {slot: history.newest(slot) for slot in history.tasks}
        return {
            slot
            for slot, task in newest.items()
            if task is not None and any(slot.task_id(run_id) == task["id"] for run_id in turn.begun)
        }

    def _not_begun(
        self, turn: Turn, wanted: Mapping[Slot, TaskBody], history: History
    ) -> Mapping[Slot, TaskBody]:
        begun = self._begun_slots(turn, history)
        return {slot: body for slot, body in wanted.items() if slot not in begun}

    def _salt(self) -> str:
        """What makes digests of this resource's own: inputs cannot be guessed from one."""
        salt = self.data().get(SALT_KEY)
        if salt is None:
            salt = secrets.token_hex(16)
            self.data_set(SALT_KEY, salt, redact=True)
        return str(salt)

    def _note_failures(self, failed: Iterable[object]) -> None:
        """Have the next update try the tolerated failures again."""
        if any(True for _ in failed):
            self.data_set(RETRY_KEY, "1")
        else:
            self.data_delete(RETRY_KEY)

    def _add_values(self, values: Mapping[str, Json]) -> Mapping[str, Json]:
        return values
