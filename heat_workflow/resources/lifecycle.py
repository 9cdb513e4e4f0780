# SPDX-License-Identifier: Apache-2.0
"""Lifecycle: how a Heat resource adds a task for an action, waits for it, and lets go of it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from heat.common import exception
from heat.engine import resource
from heat.objects import stack as stack_object

from heat_workflow import errors
from heat_workflow.client import Client
from heat_workflow.client_plugin import CLIENT_NAME
from heat_workflow.resources.runs import Run, Runs, find_runs, save_runs
from heat_workflow.resources.steps import Pending, Waiting, Work
from heat_workflow.shapes import Task, TaskBody

LOG = logging.getLogger(__name__)

POLL = 5.0  # seconds one check_ may hold: Heat looks for a cancel only between two checks
DELETE_PICKUP = 60.0  # seconds a DELETE task waits for an agent; then it is skipped, or a dead server would block
UNFINISHED = frozenset({"waiting", "ready", "leased", "stalled", "cancelling"})
REUSABLE = frozenset({"waiting", "ready", "leased", "stalled", "succeeded"})
TURNED_BACK = frozenset({"ROLLBACK", "DELETE"})


class TaskLifecycle(resource.Resource):  # type: ignore[misc]
    """A resource whose actions each add one task. Subclasses say what to do (``_work``) and how failure reads.

    Heat may end the engine between any two steps. So the id of a task is in Heat's database before the request that
    adds it, every request may be repeated, and handlers begin by looking at what the last run came to.
    """

    default_client_name = CLIENT_NAME
    always_replace_on_check_failed = False
    adds_tasks = True  # marks the types that edges between tasks end at

    properties: Any
    _finished: Task | None = None  # the finished task that check_ saw, so that attributes cost no request

    def _work(self, action: str) -> Work | None:
        """The work of this action, None if it has none."""
        raise NotImplementedError

    def _failure(self, task: Task) -> str:
        """What went wrong, for the status reason of resource and stack."""
        raise NotImplementedError

    def _must_replace(self, before: Any, work: Work, applied: Task) -> bool:
        """Whether new work, against the properties before and the task that was applied, asks for a new resource."""
        raise NotImplementedError

    def _exposes_hidden(self) -> bool:
        """Whether the author lets Heat see hidden outputs."""
        return False

    # -- create, suspend, resume -------------------------------------------------------------------------------

    def create(self) -> Iterator[Any]:
        """As Heat's. The physical id is known before anything is done, so Heat's first write of the row has it."""
        self.resource_id = self.uuid
        yield from super().create()

    def handle_create(self) -> Pending:
        return self._begin(lambda: self._start(self.CREATE))

    def handle_suspend(self) -> Pending:
        return self._begin(lambda: self._start(self.SUSPEND))

    def handle_resume(self) -> Pending:
        return self._begin(lambda: self._start(self.RESUME))

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
        return changed or self.status == self.FAILED

    def handle_update(self, json_snippet: Any, tmpl_diff: Any, prop_diff: Any) -> Pending:
        before: Any = self.properties
        self.properties = json_snippet.properties(self.properties_schema, self.context)
        return self._begin(lambda: self._updated(before))

    def _updated(self, before: Any) -> Waiting | None:
        """Take over the task that does the same already, else add one."""
        runs = find_runs(self)
        applied = runs.applied if runs else None
        seen = self._seen(runs, applied)
        work = self._work(self._pending_action(before, applied, seen))
        if work is None:
            return None
        if runs and applied and seen:
            if applied.digest == work.digest and seen["state"] in REUSABLE:
                return Waiting(runs, applied, awaited=work.awaited)
            if self._must_replace(before, work, seen):
                raise resource.UpdateReplace(self.name)
        return self._start(work.body["action"], work, after=self._end_live(runs))

    def _pending_action(self, before: Any, applied: Run | None, seen: Task | None) -> str:
        """CREATE until one has succeeded, UPDATE from then on."""
        if applied is None:
            never_asked = self.CREATE not in _upper(before["actions"])
            return str(self.UPDATE if never_asked else self.CREATE)
        created = applied.action != self.CREATE or (seen is not None and seen["state"] == "succeeded")
        return str(self.UPDATE if created else self.CREATE)

    # -- delete ------------------------------------------------------------------------------------------------

    def handle_delete(self) -> Pending:
        return self._begin(self._deleted)

    def _deleted(self) -> Waiting | None:
        """End what runs; then the DELETE task, if there is to be one."""
        work = self._work(self.DELETE)
        runs = find_runs(self) or Runs(work.workflow_id if work else "")
        latest = runs.latest
        seen = self._seen(runs, latest)
        if work and latest and latest.action == self.DELETE and seen and seen["state"] in REUSABLE:
            return Waiting(runs, latest)
        after = self._end_live(runs)
        if work is None:
            return Waiting(runs, after=after)
        pickup = min(work.body.get("pickup_timeout", DELETE_PICKUP), DELETE_PICKUP)
        body: TaskBody = {**work.body, "pickup_timeout": pickup}
        return self._start(self.DELETE, dataclasses.replace(work, body=body), after=after)

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
        if waiting and waiting.run and waiting.body is None:
            self._cancel(waiting.runs.workflow_id, waiting.run)

    handle_update_cancel = handle_create_cancel
    handle_delete_cancel = handle_create_cancel
    handle_suspend_cancel = handle_create_cancel
    handle_resume_cancel = handle_create_cancel

    def handle_preempt(self) -> None:
        """Another traversal wants the resource: if the stack turned back, what runs for the old one is to end."""
        runs = find_runs(self)
        if runs and runs.latest and self.stack.action in TURNED_BACK:
            self._cancel(runs.workflow_id, runs.latest)

    # -- the steps ---------------------------------------------------------------------------------------------

    def _api(self) -> Client:
        client: Client = self.client_plugin().client_for(self.stack)
        return client

    def _begin(self, decide: Callable[[], Waiting | None]) -> Pending:
        """Do what a handler does; what needs the API is left to check_ while the API is out of reach."""
        pending = Pending(decide)
        try:
            self._advance(pending)
        except errors.HeatWorkflowError as failure:
            self._later(failure)
        return pending

    def _advance(self, pending: Pending) -> bool:
        """Decide and send what has not been yet; False while an earlier task has not ended."""
        if pending.decide is not None:
            pending.waiting, pending.decide = pending.decide(), None
        return pending.waiting is None or self._proceed(pending.waiting)

    def _start(self, action: str, work: Work | None = None, *, after: str | None = None) -> Waiting | None:
        """Record a new run; None if this action has no work."""
        work = work or self._work(action)
        if work is None:
            return None
        old = find_runs(self) or Runs(work.workflow_id)
        run = Run(str(uuid.uuid4()), action, work.digest)
        runs = old.with_run(run)
        for dropped in old.dropped_by(runs):
            self._detach(old.workflow_id, dropped)
        save_runs(self, runs)
        return Waiting(runs, run, work.body, after, work.awaited)

    def _proceed(self, waiting: Waiting) -> bool:
        """Do what has to come before the waiting; False while an earlier task has not ended."""
        api, workflow_id = self._api(), waiting.runs.workflow_id
        if waiting.after:
            with contextlib.suppress(errors.NotFound):
                if api.get_task(workflow_id, waiting.after, wait=POLL)["state"] in UNFINISHED:
                    return False
            waiting.after = None
        if waiting.run and waiting.body is not None:
            api.put_task(workflow_id, waiting.run.task_id, waiting.body)
            waiting.body = None
        return True

    def _check(self, pending: Pending) -> bool:
        """Whether the run has succeeded; the error that says why not, if it has not."""
        try:
            if not self._advance(pending):
                return False
            waiting = pending.waiting
            if waiting is None or waiting.run is None or not waiting.awaited:
                return True
            task = self._get(waiting.runs.workflow_id, waiting.run, wait=POLL)
        except errors.HeatWorkflowError as failure:
            return self._later(failure)
        if waiting.run.action == self.DELETE and _is_lost(task):
            skipped = f"task {task['name']} of action DELETE was skipped: {task['status_reason']}"
            self._add_event(self.action, self.status, skipped)
        elif task["state"] in UNFINISHED:
            self._obey_stack(waiting.runs.workflow_id, waiting.run)
            return False
        elif task["state"] != "succeeded":
            raise exception.Error(self._failure(task))
        self._finished = task
        return True

    def _obey_stack(self, workflow_id: str, run: Run) -> None:
        """End the run if the stack has turned back since: Heat itself lets what is in progress finish."""
        row = stack_object.Stack.get_by_id(self.context, self.stack.id)
        if row and row.current_traversal != self.stack.current_traversal and row.action in TURNED_BACK:
            self._cancel(workflow_id, run)

    def _end_live(self, runs: Runs | None) -> str | None:
        """Cancel the latest run if it has not ended; its task's id then, so that what follows waits for its end."""
        seen = self._seen(runs, runs.latest if runs else None)
        if runs is None or runs.latest is None or seen is None or seen["state"] not in UNFINISHED:
            return None
        self._cancel(runs.workflow_id, runs.latest)
        return runs.latest.task_id

    def _seen(self, runs: Runs | None, run: Run | None) -> Task | None:
        """The run's task as it stands, None if there is none or it was never added."""
        if runs is None or run is None:
            return None
        with contextlib.suppress(errors.NotFound):
            return self._get(runs.workflow_id, run)
        return None

    def _get(self, workflow_id: str, run: Run, wait: float = 0) -> Task:
        return self._api().get_task(workflow_id, run.task_id, wait=wait, reveal=self._exposes_hidden())

    def _cancel(self, workflow_id: str, run: Run) -> None:
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            self._api().cancel_task(workflow_id, run.task_id)

    def _detach(self, workflow_id: str, run: Run) -> None:
        with contextlib.suppress(errors.NotFound):
            self._api().delete_task(workflow_id, run.task_id)

    def _later(self, failure: errors.HeatWorkflowError) -> bool:
        """False ("not yet") if the API is only out of reach; any other failure is raised."""
        if not self.client_plugin().is_not_yet(failure):
            raise failure
        LOG.info("resource %s of stack %s waits for the tasks API: %s", self.name, self.stack.id, failure)
        return False


def _is_lost(task: Task) -> bool:
    """Whether nobody is there to run the task: no agent took it, or the one that did is silent."""
    return task["state"] == "stalled" or (task["state"] == "timed_out" and not task["attempt"])


def _upper(words: Any) -> list[str]:
    return [word.upper() for word in words]
