# SPDX-License-Identifier: Apache-2.0
"""Workflow: the type OS::HeatWorkflow::Workflow, many tasks with edges between them in one resource."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Set
from typing import Any

from heat.common import exception
from heat.engine import attributes, support

from heat_workflow import errors
from heat_workflow.resources import asked, inline, origin, schema, slots, telling
from heat_workflow.resources.deciding import Left
from heat_workflow.resources.inline_tasks import TAKING_DOWN, InlineTasks
from heat_workflow.resources.many import ManyTasks
from heat_workflow.resources.runs import find_runs
from heat_workflow.resources.servers import servers_of
from heat_workflow.resources.slots import UNFINISHED, History, Slot
from heat_workflow.resources.turns import Turn
from heat_workflow.resources.workflow_schema import (
    GRAPH,
    NAME,
    ON_FAILURE,
    SEALED,
    SERVERS,
    STATES,
    WORKFLOW_ID,
    workflow_attributes,
    workflow_properties,
)
from heat_workflow.shapes import Definition, Json, Task, TaskBody, WorkflowBody

OVER = frozenset({"succeeded", "failed", "cancelled", "undone", "closed"})


class WorkflowResource(InlineTasks, ManyTasks):
    """Hands a whole graph of tasks over in one request; the tasks API orders them and passes values between them.

    Heat spends one resource on it however many tasks and servers there are. An update runs the tasks whose definition
    or inputs have changed, those that failed before, and what depends on them. ``get_resource`` gives the workflow's
    ID, for the property workflow of Task resources if the workflow is not sealed.
    """

    support_status = support.SupportStatus(version="1.0.0")
    properties_schema = workflow_properties
    attributes_schema = workflow_attributes

    _renamed = False
    _listed: tuple[Task, ...] = ()  # the tasks of the workflow when they were listed last, detached ones and undos too
    _over = False  # whether the workflow had come to its end when its tasks were listed last

    # -- what an action does -----------------------------------------------------------------------------------

    def _wanted(self, action: str) -> Mapping[Slot, TaskBody]:
        history = self._history() if action in TAKING_DOWN else History({})
        return self._bodies(action, self._salt(), history)

    def _places(self) -> Mapping[Slot, str | None]:
        found: dict[Slot, str | None] = {}
        for name, task in self._tasks(forgiving=True).items():
            if task[SERVERS] is None:
                found[Slot(name)] = task[schema.SERVER]
            for member, server in servers_of(task[SERVERS]).items():
                found[Slot(name, member)] = server
        return found

    def _source_of(self, slot: Slot) -> Definition | None:
        task = self._tasks(forgiving=True).get(slot.task)
        return None if task is None else self._source(task, self.DELETE)

    def _values_of(self, slot: Slot) -> Mapping[str, Json]:
        task = self._tasks(forgiving=True).get(slot.task)
        own = {} if task is None else task[schema.INPUT_VALUES] or {}
        return {**(self.properties[schema.INPUT_VALUES] or {}), **own}

    def _frame(self, slot: Slot, action: str) -> TaskBody:
        return {"name": slot.task, "heat": origin.heat_origin(self, action)}

    def _touched(self, stale: Set[Slot], gone: Set[Slot]) -> Set[Slot]:
        after = inline.dependants(self._tasks(), {slot.task for slot in stale | gone})
        return stale | {slot for slot in self._places() if slot.task in after}

    def _replaces(self, slot: Slot, body: TaskBody, task: Task) -> bool:
        return asked.replaces(body, task)

    def _partings(self, leaving: Mapping[Slot, Left]) -> dict[Slot, TaskBody]:
        """In reverse order of the edges between tasks that leave as a whole, with the outputs that they were given."""
        found = super()._partings(leaving)
        given = inline.Given(self._listed)
        whole = {slot.task for slot in found} - {slot.task for slot in self._places() if slot not in found}
        return {
            slot: {
                **body,
                "requires": [name for name in body["requires"] if name in whole],
                "input_values": {**body["input_values"], **given.outputs(leaving[slot].task)},
            }
            for slot, body in found.items()
        }

    def _completed(self, chosen: Mapping[Slot, TaskBody]) -> Mapping[Slot, TaskBody]:
        """Values of tasks whose name is held by a run that gives none (a SUSPEND) come from the one in effect."""
        history, names = self._found or History({}), {slot.task for slot in chosen}
        passed = {slot.task for slot in history.tasks if history.newest(slot) is not history.in_effect(slot)} - names
        return {
            slot: {**body, "input_values": inline.inlined(body["input_values"], history, passed)}
            for slot, body in chosen.items()
        }

    # -- the API -----------------------------------------------------------------------------------------------

    def _workflow_id(self) -> str:
        runs = find_runs(self)
        return runs.workflow_id if runs else str(self.resource_id)

    def get_reference_id(self) -> str:
        return self._workflow_id() if self.resource_id is not None else str(self.name)

    def handle_update(self, json_snippet: Any, tmpl_diff: Any, prop_diff: Any) -> Any:
        self._renamed = bool({NAME, ON_FAILURE} & prop_diff.keys())
        return super().handle_update(json_snippet, tmpl_diff, prop_diff)

    def _prepare(self) -> None:
        """Have the workflow there for those who add to it, under its present name."""
        shell = self._shell()
        if find_runs(self) is None and not self.properties[SEALED]:
            with contextlib.suppress(errors.Conflict):  # it is there, and was called something else
                self._api().put_workflow(self._workflow_id(), shell)
        if self._renamed:
            with contextlib.suppress(errors.NotFound):
                changes: WorkflowBody = {"name": shell["name"], "on_failure": shell["on_failure"]}
                self._api().patch_workflow(self._workflow_id(), changes)

    def _shell(self) -> WorkflowBody:
        """The workflow without its tasks."""
        properties = self.properties
        name = properties[NAME] or self.physical_resource_name()
        return {"name": name, "sealed": properties[SEALED], "on_failure": properties[ON_FAILURE]}

    def _send(self, requests: list[TaskBody]) -> None:
        if not self.properties[SEALED]:
            self._api().post_tasks(self._workflow_id(), requests)
            return
        runs = find_runs(self)
        if runs is None or len(runs.runs) == 1:
            # A conflict: there is one, the engine ended after an earlier request.
            with contextlib.suppress(errors.Conflict):
                self._put_whole(requests)
                return
        try:
            self._api().post_tasks(self._workflow_id(), requests, amend=True)
        except errors.NotFound:  # there is none: the engine ended between its record and its first request
            self._put_whole(requests)

    def _put_whole(self, requests: list[TaskBody]) -> None:
        self._api().put_workflow(self._workflow_id(), {**self._shell(), "tasks": requests})

    def _list(self, wait: float) -> Iterable[Task]:
        workflow_id = self._workflow_id()
        if not self.properties[SEALED]:
            self._listed = tuple(self._list_open(workflow_id, time.monotonic() + wait))
            return self._listed
        self._over = False
        if wait:
            self._over = self._api().get_workflow(workflow_id, wait=wait)["state"] in OVER
        self._listed = tuple(self._api().list_tasks(workflow_id))
        return self._listed

    def _list_open(self, workflow_id: str, until: float) -> list[Task]:
        """An open workflow never ends: its own tasks are waited for, one after the other."""
        while True:
            found = list(self._api().list_tasks(workflow_id))
            runs = find_runs(self)
            live = list(History.of(found, [run.task_id for run in runs.runs] if runs else []).live())
            left = until - time.monotonic()
            if not live or left <= 0:
                return found
            self._api().get_task(workflow_id, live[-1]["id"], wait=left)  # the last ends last

    def _is_settled(self) -> bool:
        if self._over or not self.properties[SEALED]:
            return True
        with contextlib.suppress(errors.NotFound):
            return self._api().get_workflow(self._workflow_id())["state"] in OVER
        return True

    def _judge(self, action: str, tasks: Mapping[Slot, Task]) -> None:
        """Fail if a task did, beyond what its fan-out tolerates, and say which, where and why."""
        bad = {slot: task for slot, task in sorted(tasks.items()) if task["state"] not in ("succeeded", *UNFINISHED)}
        failed = [slot for slot in bad if bad[slot]["state"] in slots.FAILED]
        for name in {slot.task for slot in failed if slot.member}:
            members = [slot for slot in failed if slot.task == name]
            if len(members) <= int((bad[members[0]].get("batch") or {}).get("max_errors", 0)):
                bad = {slot: task for slot, task in bad.items() if slot not in members}
        self._note_failures(bool(failed) and not bad)
        if bad:
            raise exception.Error(self._failure(bad))

    def _say_of_undos(self, turn: Turn, tasks: Mapping[Slot, Task]) -> None:
        own = {task["id"] for slot, task in tasks.items() if self._is_of(turn, slot, task)}
        said = [telling.undo_failure(undo) for undo in self._listed if undo["undo_of"] in own]
        if failures := [one for one in said if one]:
            self._say(slots.listed(failures))

    def _failure(self, bad: Mapping[Slot, Task]) -> str:
        ran = {slot: task for slot, task in bad.items() if task["state"] not in ("skipped", "undone")}
        skipped = [task["name"] for task in bad.values() if task["state"] == "skipped"]
        said = [f"task {task['name']} on {self._place(task)} {slots.why(task)}" for task in ran.values()]
        text = f"workflow {self.name}: {slots.listed(said)}"
        if skipped:
            text += f"; not run because of that: {', '.join(skipped[: slots.REASONS_SHOWN])}"
        undone = [task["name"] for task in bad.values() if task["state"] == "undone"]
        return f"{text}; undone: {', '.join(undone[: slots.REASONS_SHOWN])}" if undone else text

    def _place(self, task: Task) -> str:
        return origin.server_label(self, task.get("server"))

    # -- attributes --------------------------------------------------------------------------------------------

    def get_attribute(self, key: str, *path: Any) -> Any:
        if key not in workflow_attributes:
            raise exception.InvalidTemplateAttribute(resource=self.name, key=key)
        if self.resource_id is None:
            return None
        return attributes.select_from_attribute(self._resolve_attribute(key), path)

    def _resolve_attribute(self, name: str) -> Any:
        if name == WORKFLOW_ID:
            return self._workflow_id()
        if name == GRAPH:
            return self._api().get_graph(self._workflow_id())
        history = self._last_known()
        shown = history.newest if name == STATES else history.ran
        latest = {slot: task for slot in sorted(self._places()) if (task := shown(slot))}
        if name == STATES:
            return slots.by_name({slot: task["state"] for slot, task in latest.items()})
        return slots.outputs_by_name(latest)

    def validate(self) -> Any:
        result = super().validate()
        self._validate_tasks()
        return result
