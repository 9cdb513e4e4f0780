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
from heat_workflow.resources import deciding, definitions, origin, parting, schema, secrecy, slots, telling, undoing
from heat_workflow.resources.repeating import Repeating
from heat_workflow.resources.slots import UNFINISHED, History, Slot
from heat_workflow.resources.turns import LOG, Turn, TurnTaker
from heat_workflow.resources.waiting import POLL, TURNED_BACK
from heat_workflow.shapes import Definition, Json, Task, TaskBody

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
    _before: Any = None  # the properties that were brought into effect last, while an update brings others

    def _wanted(self, action: str) -> Mapping[Slot, TaskBody]:
        """What this action runs, by slot; with its ``server``, if it has one."""
        raise NotImplementedError

    def _places(self) -> Mapping[Slot, str | None]:
        """All that the template has, whether an action runs anything there or not, with the server of each."""
        raise NotImplementedError

    def _source_of(self, slot: Slot) -> Definition | None:
        """What the template asks to run there, whichever action; None if it has no such slot, or nobody knows."""
        raise NotImplementedError

    def _values_of(self, slot: Slot) -> Mapping[str, Json]:
        """The input values that the template gives there."""
        raise NotImplementedError

    def _frame(self, slot: Slot, action: str) -> TaskBody:
        """What every task of the slot says of itself: its name, where in Heat it comes from."""
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
        self._before = self.properties
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
        turn.adopted.update(task["id"] for task in history.live())
        begun = set(self._begun(turn, history))
        if turn.action == self._repeated:
            begun |= {slot for slot, body in wanted.items() if slots.does_already(history.newest(slot), body)}
        yield from self._end(turn, [task for slot, task in self._newest(history).items() if slot not in begun])
        yield from self._run(turn, {slot: body for slot, body in wanted.items() if slot not in begun})
        self._conclude(turn, self._newest(self._history(), wanted))

    def _apply_steps(self, turn: Turn) -> Iterator[None]:
        """Bring what the template wants into effect: run what changed or failed, take back what goes."""
        self._prepare()
        rolling, before = undoing.is_rolling_back(self), self._standing()
        creating, updating = self._wanted(self.CREATE), self._wanted(self.UPDATE)
        aim = deciding.Aim(self._places(), creating, updating, self._replaces, self._touched)
        plan = self._plan(turn, aim, before, rolling)
        if any(task["state"] in UNFINISHED for task in plan.ending):
            yield from self._end(turn, plan.ending)
            plan = self._plan(turn, aim, before, rolling)  # what was ended has left something behind
        yield from self._part(turn, plan, rolling)
        self._keep_entries(plan.chosen)
        yield from self._run(turn, plan.chosen)
        history = self._latest or self._history()
        self._act("detach", history.superseded())
        self._forget_runs(history)
        self._conclude(turn, self._newest(history, plan.judged))
        parting.forget_parted(self)

    def _plan(
        self, turn: Turn, aim: deciding.Aim, before: Mapping[Slot, deciding.Standing], rolling: bool
    ) -> deciding.Decision:
        self._found = self._history()
        turn.adopted.update(task["id"] for task in self._found.live())
        return deciding.decide(aim, before, self._found, self._begun(turn, self._found), rolling)

    def _standing(self) -> dict[Slot, deciding.Standing]:
        """What was brought into effect last, as Heat has kept it; nothing while the resource is being created."""
        if self._before is None:
            return {}
        parted = parting.find_parted(self)
        with self._having(self._before):
            places = {slot: at for slot, at in self._places().items() if parting.mark_of(slot, at) not in parted}
            try:
                creating, updating = self._wanted(self.CREATE), self._wanted(self.UPDATE)
            except definitions.UnknownConfig:  # Heat or somebody else has deleted it: it is created, then
                return {slot: deciding.Standing(server, True, None) for slot, server in places.items()}
        return {
            slot: deciding.Standing(server, slot in creating, _digest(creating.get(slot) or updating.get(slot)))
            for slot, server in places.items()
        }

    @contextlib.contextmanager
    def _having(self, properties: Any) -> Iterator[None]:
        """Read these properties for a while: those of before an update."""
        present, self.properties = self.properties, properties
        try:
            yield
        finally:
            self.properties = present

    # -- what leaves -------------------------------------------------------------------------------------------

    def _part(self, turn: Turn, plan: deciding.Decision, rolling: bool) -> Iterator[None]:
        """DELETE on what is left, else its undo; then it is no part of the resource any more."""
        with self._having(self._before or self.properties):
            wanted = self._partings(plan.leaving)
        begun = {slot for slot, left in plan.leaving.items() if left.parting is not None}
        chosen = {slot: body for slot, body in wanted.items() if slot not in begun}
        if chosen or begun:
            yield from self._run(turn, chosen)
            self._say_of_partings(self._newest(self._latest or self._history(), {*chosen, *begun}))
        undone = [left.in_effect for slot, left in plan.leaving.items() if slot not in begun | chosen.keys()]
        yield from self._take_back(turn, [*(t for t in undone if t and self._stays(t, rolling)), *plan.turning])
        over = plan.gone | plan.leaving.keys()
        if over:
            parting.note_parted(self, ((slot, left.server) for slot, left in plan.leaving.items() if not left.task))
            present = self._history()
            self._act("remove", (task for slot in over for task in present.tasks.get(slot, ())))

    def _partings(self, leaving: Mapping[Slot, deciding.Left]) -> dict[Slot, TaskBody]:
        """What DELETE runs where something is left: what was deployed there, whatever the template says by now."""
        if not leaving:
            return {}
        found, asked, records = dict[Slot, TaskBody](), self._wanted(self.DELETE), dict[str, Definition]()
        most, entries, silent = self.client_plugin().delete_wait(), parting.find_entries(self), self._silent()
        for slot, left in leaving.items():
            body = asked.get(slot)
            current = left.task is None or parting.is_work_of(left.task, body) or (slot, left.server) in silent
            if left.task is not None and not current:
                body = self._recorded(slot, left.task, body, entries, records)
            if body is not None:
                found[slot] = _hurried({**body, "server": left.server} if left.server else body, most)
        return found

    def _silent(self) -> Set[tuple[Slot, str | None]]:
        """Where an update has nothing to run: there the last template that was brought into effect is what counts."""
        try:
            updating = self._wanted(self.UPDATE)
        except definitions.UnknownConfig:
            return set()
        return {(slot, server) for slot, server in self._places().items() if slot not in updating}

    def _recorded(
        self,
        slot: Slot,
        task: Task,
        asked: TaskBody | None,
        entries: Mapping[str, Definition],
        records: dict[str, Definition],
    ) -> TaskBody | None:
        """The DELETE of a task whose work the template does not ask for any more; ``records`` are those read before."""
        digest = _digest(task) or task["id"]
        wanted = self.DELETE in [action.upper() for action in self.properties[schema.ACTIONS]]
        if wanted and digest not in entries and digest not in records:
            records[digest] = self._api().get_task(self._workflow_id(), task["id"])["definition"]
        kept = entries.get(digest)
        definition = parting.definition_for(kept, self._source_of(slot), asked, records.get(digest) if wanted else None)
        if definition is None:
            return None
        frame = self._frame(slot, self.DELETE)
        frame["heat"]["digest"] = digest
        frame["action"], frame["deadline"] = self.DELETE, origin.deadline(self)
        frame["requires"] = asked["requires"] if asked and "requires" in asked else []
        return parting.of_record(task, slot, definition, frame, self._values_of(slot))

    def _keep_entries(self, chosen: Mapping[Slot, TaskBody]) -> None:
        """Put down what DELETE will run of the components that are about to be deployed."""
        digests = {slot.task: (slot, _digest(body)) for slot, body in chosen.items()}
        found = {digest: parting.entry_of(self._source_of(slot)) for slot, digest in digests.values() if digest}
        new = {digest: entry for digest, entry in found.items() if entry is not None}
        tasks = (task for tasks in (self._found or History({})).tasks.values() for task in tasks)
        parting.keep_entries(self, new, {digest for task in tasks if (digest := _digest(task))})

    def _conclude(self, turn: Turn, tasks: Mapping[Slot, Task]) -> None:
        if not self._waits():
            return
        said = telling.notes(task for slot, task in tasks.items() if self._is_of(turn, slot, task))
        if said:
            self._say(slots.listed(said))
        self._say_of_undos(turn, tasks)
        self._judge(turn.action, tasks)

    def _say_of_undos(self, turn: Turn, tasks: Mapping[Slot, Task]) -> None:
        """In events, the failures of undos that the tasks API began by itself."""

    def _delete_steps(self, turn: Turn) -> Iterator[None]:
        """End what runs; DELETE tasks where they are wanted, else undo what stays behind; then let go of all."""
        history = self._history()
        if LET_GO_KEY in self.data():  # an engine died while it let go: what is gone must not count as never run
            self._let_go(history)
            return
        yield from self._end(turn, (task for task in history.live() if task["action"] != self.DELETE))
        history, places, rolling = self._history(), self._places(), undoing.is_rolling_back(self)
        leaving = {slot: deciding.Left(server) for slot, server in places.items()}
        leaving.update({slot: left for slot in history.tasks if (left := deciding.leaves({}, history, slot))})
        wanted = self._partings(leaving)
        if not self.replaced_by:
            undone = (task for slot in history.tasks if slot not in wanted and (task := history.in_effect(slot)))
            yield from self._take_back(turn, [task for task in undone if self._stays(task, rolling)])
        done = self._begun(turn, history) | {slot for slot, task in self._newest(history).items() if _deleted(task)}
        yield from self._run(turn, {slot: body for slot, body in wanted.items() if slot not in done})
        history = self._latest or self._history()
        newest = self._newest(history, wanted)
        self._say_of_skipped(newest)
        self._conclude(turn, {slot: task for slot, task in newest.items() if not slots.is_lost(task)})
        self.data_set(LET_GO_KEY, "1")
        self._let_go(history)

    def _let_go(self, history: History) -> None:
        self._act("detach", (task for tasks in history.tasks.values() for task in tasks))

    def _say_of_partings(self, tasks: Mapping[Slot, Task]) -> None:
        """In events: what goes does not hold up what comes."""
        self._say_of_skipped(tasks)
        failed = [task for task in tasks.values() if task["state"] != "succeeded" and not slots.is_lost(task)]
        if failed:
            self._say(slots.listed([f"task {task['name']} of action DELETE {slots.why(task)}" for task in failed]))

    def _say_of_skipped(self, tasks: Mapping[Slot, Task]) -> None:
        most = self.client_plugin().delete_wait()
        lost = [task for task in tasks.values() if slots.is_lost(task)]
        if lost:
            said = [f"task {task['name']} of action DELETE was skipped: {slots.why_lost(task, most)}" for task in lost]
            self._say(slots.listed(said))

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


def _digest(task: Task | TaskBody | None) -> str | None:
    return None if task is None else slots.digest_of_task(task)  # type: ignore[arg-type]


def _deleted(task: Task) -> bool:
    return (task["action"], task["state"]) == ("DELETE", "succeeded")


def _hurried(body: TaskBody, most: float) -> TaskBody:
    """The body of a DELETE task: a dead server would hold up the deletion of its stack otherwise."""
    return {**body, "pickup_timeout": min(body.get("pickup_timeout") or most, most)}
