# SPDX-License-Identifier: Apache-2.0
"""Lifecycle: how a Heat resource adds a task for an action, takes one back, and lets go of them."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from heat.engine import resource

from heat_workflow import errors
from heat_workflow.resources import deciding, definitions, parting, undoing
from heat_workflow.resources.repeating import Repeating
from heat_workflow.resources.runs import APPLYING, Run, Runs, find_runs, save_runs
from heat_workflow.resources.slots import REUSABLE, TRIED, UNFINISHED, Slot
from heat_workflow.resources.steps import Pending, Undo, Waiting, Work
from heat_workflow.resources.waiting import TURNED_BACK, TaskWatcher
from heat_workflow.shapes import Definition, Task, TaskBody


class TaskLifecycle(Repeating, TaskWatcher):
    """A resource whose actions each add one task. Subclasses say what to do (``_work``) and how failure reads.

    Heat may end the engine between any two steps. So the id of a task is in Heat's database before the request that
    adds it, every request may be repeated, and handlers begin by looking at what the last run came to.
    """

    always_replace_on_check_failed = False
    adds_tasks = True  # marks the types that edges between tasks end at

    _replacement: int | None = None  # row of the resource that replaced this one, while a rollback brings this one back

    def _work(self, action: str) -> Work | None:
        """The work of this action, None if it has none."""
        raise NotImplementedError

    def _source_of(self) -> Definition | None:
        """What the template asks to run, whichever action; None if nobody knows any more."""
        raise NotImplementedError

    def _frame(self, action: str) -> TaskBody:
        """What every task of the resource says of itself: its name and place, where in Heat it comes from."""
        raise NotImplementedError

    def _must_replace(self, before: Any, work: Work, applied: Task) -> bool:
        """Whether new work, against the properties before and the task that was applied, asks for a new resource."""
        raise NotImplementedError

    def _stands_in_for(self, replaced: Mapping[str, Any]) -> bool:
        """Whether this resource does its work where the resource with these properties, which it replaces, did."""
        return False

    def _leaves_living_server(self) -> bool:
        """Whether the server of this resource, which is being deleted, lives on."""
        return False

    # -- create, suspend, resume -------------------------------------------------------------------------------

    def create(self) -> Iterator[Any]:
        """As Heat's. The physical id is known before anything is done, so Heat's first write of the row has it."""
        self.resource_id = self.uuid
        yield from super().create()

    def handle_create(self) -> Pending:
        return self._begin(lambda: self._start(self.CREATE))

    def handle_suspend(self) -> Pending:
        return self._begin(lambda: self._other(self.SUSPEND))

    def handle_resume(self) -> Pending:
        return self._begin(lambda: self._other(self.RESUME))

    def _other(self, action: str) -> Waiting | None:
        """Take over the task of the same action that did not come to its end with its stack, else add one."""
        runs = find_runs(self)
        latest = runs.latest if runs else None
        if runs and latest and latest.action == action == self._repeated:
            work, seen = self._work(action), self._seen(runs, latest)
            if work and seen and latest.digest == work.digest and seen["state"] in REUSABLE:
                return Waiting(runs, latest, awaited=work.awaited, news=seen["state"] in UNFINISHED)
        return self._start(action)

    def check_create_complete(self, pending: Pending) -> bool:
        return self._check(pending)

    check_suspend_complete = check_create_complete
    check_resume_complete = check_create_complete
    check_update_complete = check_create_complete

    # -- update ------------------------------------------------------------------------------------------------

    def needs_replace_failed(self) -> bool:
        """Never: a failed resource may have a live task, and a replacement would start a second beside it."""
        return False

    def _needs_update(self, *args: Any, **kwargs: Any) -> bool:
        changed: bool = super()._needs_update(*args, **kwargs)
        return changed or self.status == self.FAILED or self._replacement is not None

    def restore_prev_rsrc(self, convergence: bool = False) -> None:
        """A rollback brings this resource back. If its replacement took its task back, the task has to run again."""
        took_back = undoing.find_replacement(self, self.replaced_by) is not None
        self._replacement = self.replaced_by if took_back else None

    def handle_update(self, json_snippet: Any, tmpl_diff: Any, prop_diff: Any) -> Pending:
        before: Any = self.properties
        self.properties = json_snippet.properties(self.properties_schema, self.context)
        return self._begin(lambda: self._updated(before))

    def _updated(self, before: Any) -> Waiting | None:
        """Take over the task that does the same already, else add one."""
        runs = find_runs(self)
        applied = runs.applied if runs else None
        seen = self._seen(runs, applied)
        tried = [(applied.action, seen["state"] if seen else "")] if applied else []
        created = deciding.next_action(tried, idle=False) == self.UPDATE
        standing = None if created else self._standing(before)
        idle = standing is not None and not standing.creates
        work = self._work(deciding.next_action(tried, idle))
        if work is None:
            return None
        if applied is None and idle and standing and standing.digest == work.digest:
            return None
        if runs and applied and seen:
            if applied.digest == work.digest and seen["state"] in REUSABLE and self._replacement is None:
                return Waiting(runs, applied, awaited=work.awaited, news=seen["state"] in UNFINISHED)
            if self._must_replace(before, work, seen):
                raise resource.UpdateReplace(self.name)
        undos = self._undos_of_rollback(runs)
        return self._start(work.body["action"], work, after=self._end_live(runs), undos=undos)

    def _standing(self, before: Any) -> deciding.Standing | None:
        """What was brought into effect last, as Heat has kept it; None if its config is not there any more."""
        present, self.properties = self.properties, before
        try:
            creating = self._work(self.CREATE)
            updating = self._work(self.UPDATE)
        except definitions.UnknownConfig:
            return None
        finally:
            self.properties = present
        work = creating or updating
        return deciding.Standing(None, creating is not None, work.digest if work else None, updating is not None)

    def _undos_of_rollback(self, runs: Runs | None) -> list[Undo]:
        """What a rollback takes back before the old definition runs again: the replacement's task, or the own one."""
        if not undoing.is_rolling_back(self):
            return []
        replacement = undoing.find_replacement(self, self._replacement)
        theirs = replacement or runs
        if theirs is None or theirs.applied is None:
            return []
        return [Undo(theirs.workflow_id, theirs.applied.task_id)]

    # -- delete ------------------------------------------------------------------------------------------------

    def handle_delete(self) -> Pending:
        return self._begin(self._deleted)

    def _deleted(self) -> Waiting | None:
        """End what runs; then the DELETE task, if there is to be one."""
        found = find_runs(self)
        run, task = self._deployed(found)
        work = self._parting(run, task) if run else self._work(self.DELETE)
        runs = found or Runs(work.workflow_id if work else "")
        latest = runs.latest
        seen = self._seen(runs, latest)
        if work and latest and latest.action == self.DELETE and seen and seen["state"] in REUSABLE:
            return Waiting(runs, latest)
        after = self._end_live(runs)
        if work is None:
            return Waiting(runs, after=after, undos=self._undos_of_delete(runs))
        most = self.client_plugin().delete_wait()
        pickup = min(work.body.get("pickup_timeout", most), most)
        body: TaskBody = {**work.body, "pickup_timeout": pickup}
        return self._start(self.DELETE, dataclasses.replace(work, body=body), after=after)

    def _parting(self, run: Run, task: Task) -> Work | None:
        """The work of DELETE: it takes down what is in effect, whatever the template says by now.

        Where an update has nothing to run, the last template that was brought into effect is what counts.
        """
        work = self._work(self.DELETE)
        if work is not None and work.digest == run.digest:
            return work
        standing = self._standing(self.properties)
        if standing is not None and not standing.updates:
            return work
        kept = parting.find_entries(self).get(run.digest)
        asked, wanted = (work.body if work else None), self.DELETE in _upper(self.properties["actions"])
        definition = parting.definition_for(kept, self._source_of(), asked, task["definition"] if wanted else None)
        if definition is None:
            return None
        frame = self._frame(self.DELETE)
        slot, values = Slot(frame["name"]), self.properties["input_values"] or {}
        body = parting.of_record(task, slot, definition, frame, values)
        return Work(work.workflow_id if work else task["workflow_id"], body, run.digest, work is None or work.awaited)

    def _undos_of_delete(self, runs: Runs) -> list[Undo]:
        """The run in effect, if its server lives on or the stack is rolled back, and no replacement has seen to it."""
        run, task = self._in_effect(runs)
        if run is None or not task.get("undo") or undoing.find_replacement(self, self.replaced_by) is not None:
            return []
        if not undoing.is_rolling_back(self) and not self._leaves_living_server():
            return []
        return [Undo(runs.workflow_id, run.task_id)]

    def _in_effect(self, runs: Runs | None) -> tuple[Run | None, Task]:
        """The newest run that was to be applied and succeeded, or may yet succeed, with its task."""
        for run in reversed(runs.runs if runs else ()):
            seen = self._seen(runs, run) if run.action in APPLYING else None
            if seen and (seen["state"] == "succeeded" or seen["state"] in UNFINISHED):
                return run, seen
        return None, {}

    def _deployed(self, runs: Runs | None) -> tuple[Run | None, Task]:
        """What is in effect, else the newest run that was tried: it may have left something behind."""
        run, task = self._in_effect(runs)
        for tried in reversed(runs.runs if runs and run is None else ()):
            seen = self._seen(runs, tried) if tried.action in APPLYING else None
            if seen and seen["attempt"] and seen["state"] in TRIED:
                return tried, seen
        return run, task

    def check_delete_complete(self, pending: Pending) -> bool:
        if not self._check(pending):
            return False
        runs = pending.waiting.runs if pending.waiting else Runs("")
        try:
            for run in runs.runs:
                self._detach(runs.workflow_id, run)
        except errors.HeatWorkflowError as failure:
            return self._later(failure)
        return True

    # -- cancel ------------------------------------------------------------------------------------------------

    def handle_create_cancel(self, pending: Pending) -> None:
        """Heat stopped waiting (delete, or its time is up): the guest is to stop too."""
        waiting = pending.waiting
        for undo in waiting.undos[:1] if waiting else ():
            if undo.undo_id:
                self._cancel(undo.workflow_id, undo.undo_id)
        if waiting and waiting.run and waiting.body is None:
            self._cancel(waiting.runs.workflow_id, waiting.run.task_id)

    handle_update_cancel = handle_create_cancel
    handle_delete_cancel = handle_create_cancel
    handle_suspend_cancel = handle_create_cancel
    handle_resume_cancel = handle_create_cancel

    def handle_preempt(self) -> None:
        """Another traversal wants the resource: if the stack turned back, what runs for the old one is to end."""
        runs = find_runs(self)
        if runs and runs.latest and self.stack.action in TURNED_BACK:
            self._cancel(runs.workflow_id, runs.latest.task_id)

    # -- runs --------------------------------------------------------------------------------------------------

    def _start(
        self,
        action: str,
        work: Work | None = None,
        *,
        after: str | None = None,
        undos: list[Undo] | None = None,
    ) -> Waiting | None:
        """Record a new run; None if this action has nothing to do."""
        work = work or self._work(action)
        old = find_runs(self)
        before = [*(undos or []), *self._undos_of_replaced(action)]
        if work is None:
            return Waiting(old or Runs(""), undos=before) if before else None
        old = old or Runs(work.workflow_id)
        run = Run(str(uuid.uuid4()), action, work.digest)
        runs = old.with_run(run, self._in_effect(old)[0] if len(old.runs) > 1 else None)
        for dropped in old.dropped_by(runs):
            self._detach(old.workflow_id, dropped)
        if action in APPLYING:
            self._keep_entry(runs, work.digest)
        save_runs(self, runs)
        return Waiting(runs, run, work.body, after, work.awaited, undos=before)

    def _keep_entry(self, runs: Runs, digest: str) -> None:
        """Put down what DELETE will run of the component that is about to be deployed."""
        entry = parting.entry_of(self._source_of())
        parting.keep_entries(self, {digest: entry} if entry else {}, {run.digest for run in runs.runs})

    def _undos_of_replaced(self, action: str) -> list[Undo]:
        """What is taken back before the first run: the task of the resource that this one replaces in its place."""
        found = undoing.find_replaced(self) if action == self.CREATE else None
        if found is None or not self._stands_in_for(found[1]) or self.DELETE in _upper(found[1].get("actions") or ()):
            return []
        run, task = self._in_effect(found[0])
        if run is None or not task.get("undo"):
            return []
        self.data_set(undoing.TOOK_BACK, run.task_id)
        return [Undo(found[0].workflow_id, run.task_id)]

    def _end_live(self, runs: Runs | None) -> str | None:
        """Cancel the latest run if it has not ended; its task's id then, so that what follows waits for its end."""
        seen = self._seen(runs, runs.latest if runs else None)
        if runs is None or runs.latest is None or seen is None or seen["state"] not in UNFINISHED:
            return None
        self._cancel(runs.workflow_id, runs.latest.task_id)
        return runs.latest.task_id


def _upper(words: Any) -> list[str]:
    return [word.upper() for word in words]
