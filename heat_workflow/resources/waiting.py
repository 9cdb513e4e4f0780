# SPDX-License-Identifier: Apache-2.0
"""Waiting: how a resource sends what it decided to the tasks API, and watches until that has come about."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from heat.common import exception
from heat.engine import resource
from heat.objects import stack as stack_object

from heat_workflow import errors
from heat_workflow.client import Client
from heat_workflow.client_plugin import CLIENT_NAME
from heat_workflow.resources import origin, slots, telling
from heat_workflow.resources.runs import Run, Runs
from heat_workflow.resources.slots import UNFINISHED, is_lost
from heat_workflow.resources.steps import Pending, Undo, Waiting
from heat_workflow.shapes import Task

LOG = logging.getLogger(__name__)

POLL = 5.0  # seconds one check_ may hold: Heat looks for a cancel only between two checks
HELD_UP = frozenset({"waiting", "ready", "stalled"})
TURNED_BACK = frozenset({"ROLLBACK", "DELETE"})


class TaskWatcher(resource.Resource):  # type: ignore[misc]
    """A resource that waits for tasks. Every request may be repeated, so that Heat may end the engine anywhere."""

    default_client_name = CLIENT_NAME

    properties: Any
    _finished: Task | None = None  # the finished task that check_ saw, so that attributes cost no request

    def _failure(self, task: Task) -> str:
        """What went wrong, for the status reason of resource and stack."""
        raise NotImplementedError

    def _exposes_hidden(self) -> bool:
        """Whether the author lets Heat see hidden outputs."""
        return False

    # -- from decision to end ----------------------------------------------------------------------------------

    def _begin(self, decide: Callable[[], Waiting | None]) -> Pending:
        """Do what a handler does; what needs the API is left to check_ while the API is out of reach."""
        pending = Pending(decide)
        try:
            self._advance(pending)
        except errors.HeatWorkflowError as failure:
            self._later(failure)
        return pending

    def _advance(self, pending: Pending) -> bool:
        """Decide and send what has not been yet; False while something earlier has not ended."""
        if pending.decide is not None:
            pending.waiting, pending.decide = pending.decide(), None
        return pending.waiting is None or self._proceed(pending.waiting)

    def _proceed(self, waiting: Waiting) -> bool:
        """Do what has to come before the waiting; False while something earlier has not ended."""
        api, workflow_id = self._api(), waiting.runs.workflow_id
        if waiting.after:
            with contextlib.suppress(errors.NotFound):
                ended = api.get_task(workflow_id, waiting.after, wait=POLL)
                if ended["state"] in UNFINISHED:
                    return False
                if ended.get("confirmed") is False:
                    self._say(f"task {ended['name']} was cancelled: {ended['status_reason']}")
            waiting.after = None
        while waiting.undos:
            if not self._taken_back(waiting.undos[0]):
                return False
            del waiting.undos[0]
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
            self._say_of_attempts(pending, waiting.runs.workflow_id, task)
        except errors.HeatWorkflowError as failure:
            return self._later(failure)
        if waiting.run.action == self.DELETE and is_lost(task):
            self._say(f"task {task['name']} of action DELETE was skipped: {self._why_lost(task)}")
        elif task["state"] in UNFINISHED:
            self._say_what_holds(pending, task)
            self._obey_stack(waiting.runs.workflow_id, waiting.run)
            return False
        elif task["state"] != "succeeded":
            raise exception.Error(self._failure(task))
        elif waiting.news and (said := telling.notes([task])):
            self._say(slots.listed(said))
        self._finished = task
        return True

    def _obey_stack(self, workflow_id: str, run: Run) -> None:
        """End the run if the stack has turned back since: Heat itself lets what is in progress finish."""
        row = stack_object.Stack.get_by_id(self.context, self.stack.id)
        if row and row.current_traversal != self.stack.current_traversal and row.action in TURNED_BACK:
            self._cancel(workflow_id, run.task_id)

    def _why_lost(self, task: Task) -> str:
        return slots.why_lost(task, self.client_plugin().delete_wait())

    def _say_of_attempts(self, pending: Pending, workflow_id: str, task: Task) -> None:
        """In an event, each attempt that failed and is followed by another."""

        def attempts(one: Task) -> telling.Attempts:
            return self._api().list_attempts(workflow_id, one["id"])

        if said := telling.news_of_attempts([task], pending.attempts, attempts):
            self._say(slots.listed(said))

    # -- events ------------------------------------------------------------------------------------------------

    def _say(self, what: str) -> None:
        """Tell the stack's owner, in an event beside the state as it is."""
        self._add_event(self.action, self.status, what)

    def _say_what_holds(self, pending: Pending, task: Task) -> None:
        """Once a task has not run for a while, one event that says what it waits for."""
        waited = time.monotonic() - pending.began
        if pending.told or task["state"] not in HELD_UP or waited < self.client_plugin().waiting_event_after():
            return
        pending.told = True
        self._say(f"task {task['name']} is {task['state']} after {waited:.0f} s; it waits for {task['waiting_for']}")

    # -- taking back -------------------------------------------------------------------------------------------

    def _taken_back(self, undo: Undo) -> bool:
        """Whether there is no more to do about the undo: it succeeded, or an event says why it did not."""
        if undo.undo_id is None and not self._undo_added(undo):
            return False
        if undo.undo_id is None:
            return True
        with contextlib.suppress(errors.NotFound):
            task = self._api().get_task(undo.workflow_id, undo.undo_id, wait=POLL)
            if task["state"] == "stalled":
                self._cancel(undo.workflow_id, undo.undo_id)
            elif task["state"] in UNFINISHED:
                return False
            if is_lost(task):
                self._say(f"{task['name']} was skipped: {self._why_lost(task)}")
            elif task["state"] != "succeeded":
                self._say(self._failure(task))
        return True

    def _undo_added(self, undo: Undo) -> bool:
        """Add the undo of a task that succeeded and has one; False while the task itself is to end."""
        api = self._api()
        try:
            task = api.get_task(undo.workflow_id, undo.task_id)
            if task["state"] in UNFINISHED:
                self._cancel(undo.workflow_id, undo.task_id)
                return api.get_task(undo.workflow_id, undo.task_id, wait=POLL)["state"] not in UNFINISHED
            if task["state"] != "succeeded" or not task.get("undo"):
                return True
            added = api.undo_task(undo.workflow_id, undo.task_id)
        except (errors.NotFound, errors.Conflict) as refusal:
            LOG.info("task %s is not taken back: %s", undo.task_id, refusal)
            return True
        undo.undo_id = added["id"]
        most = self.client_plugin().delete_wait()
        bounds = {"pickup_timeout": min(added.get("pickup_timeout") or most, most), "deadline": origin.deadline(self)}
        with contextlib.suppress(errors.Conflict):  # an agent has it already
            api.patch_task(undo.workflow_id, undo.undo_id, bounds)  # type: ignore[arg-type]
        return True

    # -- the API -----------------------------------------------------------------------------------------------

    def _api(self) -> Client:
        client: Client = self.client_plugin().client_for(self.stack)
        return client

    def _seen(self, runs: Runs | None, run: Run | None) -> Task | None:
        """The run's task as it stands, None if there is none or it was never added."""
        if runs is None or run is None:
            return None
        with contextlib.suppress(errors.NotFound):
            return self._get(runs.workflow_id, run)
        return None

    def _get(self, workflow_id: str, run: Run, wait: float = 0) -> Task:
        return self._api().get_task(workflow_id, run.task_id, wait=wait, reveal=self._exposes_hidden())

    def _cancel(self, workflow_id: str, task_id: str) -> None:
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            self._api().cancel_task(workflow_id, task_id)

    def _detach(self, workflow_id: str, run: Run) -> None:
        with contextlib.suppress(errors.NotFound):
            self._api().delete_task(workflow_id, run.task_id)

    def _later(self, failure: errors.HeatWorkflowError) -> bool:
        """False ("not yet") if the API is only out of reach; any other failure is raised."""
        if not self.client_plugin().is_not_yet(failure):
            raise failure
        LOG.info("resource %s of stack %s waits for the tasks API: %s", self.name, self.stack.id, failure)
        return False
