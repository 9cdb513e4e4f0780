# SPDX-License-Identifier: Apache-2.0
"""Many: how a Heat resource of many tasks is created, updated, suspended, resumed, deleted and cancelled."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from heat.engine import sync_point

from heat_workflow import errors
from heat_workflow.resources import deciding, secrecy, slots, undoing
from heat_workflow.resources.repeating import Repeating
from heat_workflow.resources.slots import History, Slot
from heat_workflow.resources.turns import LOG, Turn, TurnTaker
from heat_workflow.resources.waiting import POLL, TURNED_BACK
from heat_workflow.shapes import Task, TaskBody

SALT_KEY = "heat_workflow_salt"
LET_GO_KEY = "heat_workflow_let_go"  # in the data of a resource whose deletion has done all but let go of its tasks
RETRY_KEY = "heat_workflow_retry"  # in the data of a COMPLETE resource with failures: the next update tries them again


class ManyTasks(Repeating, TurnTaker, secrecy.KeepsSecrets):
    """A resource whose actions each add many tasks. Subclasses say what is wanted and when that failed.

    Nothing is kept in a handler but the place where it stands: an action begins by looking at what the API has. So
    Heat may end the engine anywhere, and the next update goes on with what is alive.
    """

    always_replace_on_check_failed = False
    secret_data = frozenset({SALT_KEY})
    adds_tasks = True  # marks the types that edges between tasks end at

    _found: History | None = None  # what was attached when an update began

    def _wanted(self, action: str) -> Mapping[Slot, TaskBody]:
        """What this action runs, by slot; with its ``server``, if it has one."""
        raise NotImplementedError

    def _slots(self) -> Set[Slot]:
        """All that the template has, whether an action runs anything there or not."""
        raise NotImplementedError

    def _judge(self, action: str, tasks: Mapping[Slot, Task]) -> None:
        """Raise the error that says in words what went wrong, if anything did."""
        raise NotImplementedError

    def _touched(self, stale: Set[Slot], gone: Set[Slot]) -> Set[Slot]:
        """All that has to run because these do, or are gone."""
        return stale

    def _replaces(self, slot: Slot, body: TaskBody, task: Task) -> bool:
        """Whether the change asks for the old to be taken back and the new to be created, instead of an update."""
        return False

    def _parting(self, slot: Slot, task: Task) -> TaskBody | None:
        """The DELETE task for one that leaves, None if there is none: then its undo runs."""
        return None

    def _prepare(self) -> None:
        """What has to be there before tasks are added."""

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
        turn.until = time.monotonic() + POLL
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
        with contextlib.suppress(errors.NotFound):
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
        self._advance(turn)
        return turn

    def _advance(self, turn: Turn) -> bool:
        """Go on with the action; False for "not yet", also while the API is out of reach."""
        try:
            turn.steps = turn.steps or self._steps(turn)
            next(turn.steps)
        except StopIteration:
            turn.steps = iter(())
            return True
        except errors.HeatWorkflowError as failure:
            turn.steps = None  # what was decided may not hold any more
            # A workflow on its way down (cancelling, undoing) takes tasks again when it is there.
            busy = isinstance(failure, errors.Conflict) and failure.code == "state"
            if not busy and not self.client_plugin().is_not_yet(failure):
                raise
            LOG.info("resource %s of stack %s waits for the tasks API: %s", self.name, self.stack.id, failure)
        return False

    def _steps(self, turn: Turn) -> Iterator[None]:
        if turn.action == self.DELETE:
            return self._delete_steps(turn)
        if turn.action in (self.SUSPEND, self.RESUME):
            return self._other_steps(turn)
        return self._apply_steps(turn)

    def _other_steps(self, turn: Turn) -> Iterator[None]:
        wanted, history = self._wanted(turn.action), self._history()
        if not wanted:
            return
        begun = set(self._begun(turn, history))
        if turn.action == self._repeated:
            begun |= {slot for slot, body in wanted.items() if slots.does_already(history.newest(slot), body)}
        yield from self._end(turn, (task for slot, task in self._newest(history).items() if slot not in begun))
        yield from self._run(turn, {slot: body for slot, body in wanted.items() if slot not in begun})
        self._conclude(turn.action, self._newest(self._history(), wanted))

    def _apply_steps(self, turn: Turn) -> Iterator[None]:
        """Bring what the template wants into effect: run what changed or failed, take back what goes."""
        self._prepare()
        kept = self._slots()
        aim = deciding.Aim(kept, self._wanted(self.CREATE), self._wanted(self.UPDATE), self._replaces, self._touched)
        self._found = history = self._history()
        rolling = undoing.is_rolling_back(self)
        plan = deciding.decide(aim, history, self._begun(turn, history), rolling)
        yield from self._end(turn, (t for slot in plan.gone | plan.chosen.keys() for t in history.tasks.get(slot, ())))
        partings = {slot: body for slot, task in plan.leaving.items() if (body := self._parting(slot, task))}
        if partings:
            yield from self._run(turn, partings)
            self._say_of_failures(self._newest(self._history(), partings))
        undone = [task for slot, task in plan.leaving.items() if slot not in partings and self._stays(task, rolling)]
        yield from self._take_back(turn, [*undone, *plan.turning])
        if plan.gone:
            present = self._history()
            self._act("remove", (task for slot in plan.gone for task in present.tasks.get(slot, ())))
        yield from self._run(turn, plan.chosen)
        history = self._latest or self._history()
        self._act("detach", history.superseded())
        self._forget_runs(history)
        self._conclude(
            turn.action, {slot: task for slot, task in self._newest(history, kept).items() if aim.body(slot)}
        )

    def _conclude(self, action: str, tasks: Mapping[Slot, Task]) -> None:
        if self._waits():
            self._judge(action, tasks)

    def _delete_steps(self, turn: Turn) -> Iterator[None]:
        """End what runs; DELETE tasks where they are wanted, else undo what stays behind; then let go of all."""
        history = self._history()
        if LET_GO_KEY in self.data():  # an engine died while it let go: what is gone must not count as never run
            self._let_go(history)
            return
        yield from self._end(turn, (task for task in history.live() if task["action"] != self.DELETE))
        history, wanted, rolling = self._history(), self._wanted(self.DELETE), undoing.is_rolling_back(self)
        if not self.replaced_by:
            undone = (task for slot in history.tasks if slot not in wanted and (task := history.in_effect(slot)))
            yield from self._take_back(turn, [task for task in undone if self._stays(task, rolling)])
        done = self._begun(turn, history) | {slot for slot, task in self._newest(history).items() if _deleted(task)}
        most = self.client_plugin().delete_wait()
        yield from self._run(turn, {slot: _hurried(body, most) for slot, body in wanted.items() if slot not in done})
        history = self._latest or self._history()
        newest = self._newest(history, wanted)
        lost = [slot for slot, task in newest.items() if slots.is_lost(task)]
        for slot in lost:
            self._say(f"task {newest[slot]['name']} of action DELETE was skipped: {newest[slot]['status_reason']}")
        self._conclude(turn.action, {slot: task for slot, task in newest.items() if slot not in lost})
        self.data_set(LET_GO_KEY, "1")
        self._let_go(history)

    def _let_go(self, history: History) -> None:
        self._act("detach", (task for tasks in history.tasks.values() for task in tasks))

    def _say_of_failures(self, tasks: Mapping[Slot, Task]) -> None:
        """In an event: what goes does not hold up what comes."""
        failed = [task for task in tasks.values() if task["state"] != "succeeded"]
        if failed:
            self._say(slots.listed([f"task {task['name']} of action DELETE {slots.why(task)}" for task in failed]))

    def FnGetAtt(self, key: str, *path: Any) -> Any:
        """As Heat's, but what unfinished tasks have not said yet is not remembered."""
        value = super().FnGetAtt(key, *path)
        if self._known is None:
            self.attributes.cached_attrs.pop(sync_point.str_pack_tuple((key, *path)) if path else key, None)
        return value

    def _stays(self, task: Task, rolling: bool) -> bool:
        """Whether the task is to be taken back as it goes: its server lives on, or the stack is rolled back."""
        return bool(task.get("undo")) and (rolling or undoing.server_stays(self, task.get("server")))

    def _newest(self, history: History, wanted: Iterable[Slot] | None = None) -> dict[Slot, Task]:
        chosen = history.tasks if wanted is None else wanted
        return {slot: task for slot in chosen if (task := history.newest(slot))}

    def _salt(self) -> str:
        """What makes digests this resource's own, so that inputs cannot be guessed from one."""
        salt = self._secret(SALT_KEY)
        if salt is None:
            salt = secrets.token_hex(16)
            self.data_set(SALT_KEY, salt, redact=True)
        return salt

    def _note_failures(self, failed: bool) -> None:
        """Have the next update try the tolerated failures again."""
        if failed:
            self.data_set(RETRY_KEY, "1")
        elif RETRY_KEY in self.data():
            self.data_delete(RETRY_KEY)


def _deleted(task: Task) -> bool:
    return (task["action"], task["state"]) == ("DELETE", "succeeded")


def _hurried(body: TaskBody, most: float) -> TaskBody:
    """The body of a DELETE task: a dead server would hold up the deletion of its stack otherwise."""
    return {**body, "pickup_timeout": min(body.get("pickup_timeout") or most, most)}
