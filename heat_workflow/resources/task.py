# SPDX-License-Identifier: Apache-2.0
"""Task: the type OS::HeatWorkflow::Task, one software config run once per action on one server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from heat.common import exception
from heat.engine import attributes, function, support, sync_point

from heat_workflow.resources import definitions, known, ordering, origin, reasons, schema, slots, undoing
from heat_workflow.resources.asked import PASSED_ON, Asked
from heat_workflow.resources.lifecycle import TaskLifecycle
from heat_workflow.resources.nova_server import ServerResource
from heat_workflow.resources.runs import find_runs
from heat_workflow.resources.slots import UNFINISHED
from heat_workflow.resources.steps import Work
from heat_workflow.shapes import Definition, Json, Task, TaskBody

LAST_LINES = 3  # of stderr, in the reason of a failure


class TaskResource(Asked, TaskLifecycle):
    """Runs a software config on a server, once for each action it is wanted for, and waits until it has run.

    It takes the properties of OS::Heat::SoftwareDeployment and does what that does, with an agent that hears of its
    work at once. A task that fails, fails the resource: the reason names the task, the server, the exit code and the
    last line that was written to stderr. The outputs that the config declares are attributes by their names.
    """

    support_status = support.SupportStatus(version="1.0.0")
    properties_schema = schema.task_properties
    attributes_schema = schema.task_attributes
    passed_on = (schema.SERVER, *PASSED_ON)
    places = (schema.SERVER, schema.CAPABILITIES)

    _settled = True  # whether the attribute just read is the last word on it

    def add_dependencies(self, deps: Any) -> None:
        """As Heat's; besides, of two tasks of a server that nothing orders the first by name comes first."""
        super().add_dependencies(deps)
        before = ordering.find_predecessor(self)
        if before is not None:
            deps += (self, before)

    # -- what an action does -----------------------------------------------------------------------------------

    def _work(self, action: str) -> Work | None:
        asked = self._asked(action)
        if asked is None:
            return None
        source, body = asked
        properties = self.properties
        body.update(self._frame(action))
        values: dict[str, Json] = dict(properties[schema.INPUT_VALUES] or {})
        wanted = {key: properties[key] or None for key in (schema.SERVER, schema.CAPABILITIES, schema.RUN_AS)}
        digest = definitions.digest_of(source, values, {**wanted, **self._also_wanted()})
        return Work(self._workflow_id(), body, digest, awaited=self._awaited(body["definition"]))

    def _workflow_id(self) -> str:
        runs = find_runs(self)
        own: str | None = runs.workflow_id if runs else self.properties[schema.WORKFLOW]
        return own or origin.find_place(self).workflow["id"]

    def _frame(self, action: str) -> TaskBody:
        place = origin.find_place(self)
        frame: TaskBody = {"name": place.path, "heat": origin.heat_origin(self, action), "action": action}
        frame["deadline"] = origin.deadline(self)
        if self.properties[schema.SERVER]:
            frame["server"] = self.properties[schema.SERVER]
        if self.properties[schema.WORKFLOW] is None:
            frame["workflow"] = {"id": self._workflow_id(), "name": place.root_name}
        return frame

    def _source_of(self) -> Definition | None:
        return self._source(self.DELETE)

    def _must_replace(self, before: Any, work: Work, applied: Task) -> bool:
        old_values: Mapping[str, Json] = before[schema.INPUT_VALUES] or {}
        new_values = work.body["input_values"]
        old, new = applied["definition"], work.body["definition"]
        known = {io["name"] for io in old["inputs"]}
        return any(
            old_values.get(name, definitions.default_of(old, name))
            != new_values.get(name, definitions.default_of(new, name))
            for name in definitions.replacing_inputs(new)
            if name in known
        )

    def _stands_in_for(self, replaced: Mapping[str, Any]) -> bool:
        return bool(replaced.get(schema.SERVER) == self.properties[schema.SERVER])

    def _leaves_living_server(self) -> bool:
        return undoing.server_stays(self, self.properties[schema.SERVER])

    def _failure(self, task: Task) -> str:
        server = origin.server_label(self, task.get("server") or self.properties[schema.SERVER])
        said = f"task {task['name']} on {server}"
        told = slots.why(task)
        *before, last = reasons.lines_of(task.get("deploy_stderr"))[-LAST_LINES:] or [""]
        if task["state"] != "failed" or not before or not told.endswith(last):
            return f"{said} {told}"
        return f"{said} {told} (after: {' | '.join(before)})"

    # -- attributes --------------------------------------------------------------------------------------------

    def FnGetAtt(self, key: str, *path: Any) -> Any:
        """As Heat's, but what an unfinished task has not said yet is not remembered."""
        self._settled = True
        value = super().FnGetAtt(key, *path)
        if not self._settled:
            self.attributes.cached_attrs.pop(sync_point.str_pack_tuple((key, *path)) if path else key, None)
        return value

    def get_attribute(self, key: str, *path: Any) -> Any:
        """An output of the latest run that an agent took, or what is known of that run. Declared names win."""
        task = self._latest_task()
        self._settled = task is not None and task["state"] not in UNFINISHED
        declared = self._declared_outputs(task)
        if key not in declared and key not in schema.task_attributes:
            raise exception.InvalidTemplateAttribute(resource=self.name, key=key)
        if task is None:
            return None
        hidden = set() if self._exposes_hidden() else set(task.get("hidden_outputs") or ())
        if key in hidden:
            raise exception.Error(
                f"output {key} of task {task['name']} is hidden; set expose_hidden to let get_attr read it"
            )
        outputs = task.get("outputs") or {}
        if key in declared:
            value: Any = outputs.get(key)
        elif key == schema.OUTPUTS:
            value = {name: output for name, output in outputs.items() if name not in hidden}
        else:
            value = task["id"] if key == schema.TASK_ID else cast("Mapping[str, Any]", task).get(key)
        return attributes.select_from_attribute(value, path)

    def _latest_task(self) -> Task | None:
        """The newest run that an agent took; the newest of all if none did."""
        if self._finished:
            return self._finished
        runs = find_runs(self)
        newest: Task | None = None
        for run in reversed(runs.runs if runs else ()):
            task = self._seen(runs, run)
            newest = newest or task
            if task and task.get("attempt"):
                newest = task
                break
        if newest and newest["state"] not in UNFINISHED:
            self._finished = newest
        return newest

    def _declared_outputs(self, task: Task | None) -> set[str]:
        definition = task["definition"] if task else self._source(self.CREATE)
        return {str(output["name"]) for output in (definition or {}).get("outputs", [])}

    def _resolve_attribute(self, name: str) -> Any:
        return self.get_attribute(name)

    # -- validation --------------------------------------------------------------------------------------------

    def validate(self) -> Any:
        """Refuse, before anything is created, what could never run."""
        result = super().validate()
        self._validate_asked()
        for reference in function.dependencies(self.properties.data.get(schema.SERVER)):
            self._validate_server(self.stack.get(reference.name))
        return result

    def _validate_server(self, server: Any) -> None:
        """A server of ours has an agent only if it boots with one."""
        if not isinstance(server, ServerResource) or server.user_data_software_config():
            return
        if not known.is_unknown(server.properties.data.get(server.USER_DATA_FORMAT), self.stack.strict_validate):
            self._refuse(f"server {server.name} has no agent: give it user_data_format SOFTWARE_CONFIG")
