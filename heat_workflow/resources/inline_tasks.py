# SPDX-License-Identifier: Apache-2.0
"""Inline tasks: the tasks in a workflow's properties, made into requests, or refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from heat.common import exception
from heat.engine import properties as heat_properties

from heat_workflow.resources import asked, definitions, inline, origin, schema
from heat_workflow.resources.slots import History, Slot
from heat_workflow.resources.workflow_schema import BATCH, ON_FAILURE, REQUIRES, SEALED, SERVERS, TASKS, task_fields
from heat_workflow.shapes import Definition, HeatOrigin, Json, TaskBody

PASSED_ON = (*asked.PASSED_ON, schema.SERVER)
TAKING_DOWN = ("DELETE", "SUSPEND")  # what is built on others goes first


class InlineTasks:
    """The part of a workflow resource that reads its tasks. The rest of it is a Heat resource."""

    properties: Any
    stack: Any
    name: Any
    context: Any
    DELETE: str

    _read: tuple[Any, dict[str, Any]] | None = None  # properties, and the tasks in them

    def _bodies(self, action: str, salt: str, history: History) -> dict[Slot, TaskBody]:
        """What this action runs, by slot; outputs in ``history`` are for what is taken down."""
        tasks = self._tasks()
        chosen = {}
        for name, task in tasks.items():
            source = self._source(task, action)
            definition = source and definitions.for_action(source, action, self._actions())
            if source is not None and definition is not None:
                chosen[name] = (source, definition)
        required = inline.bridged(inline.edges(tasks), chosen.keys())
        if action in TAKING_DOWN:
            required = inline.turned(required)
        heat = origin.heat_origin(self, action)
        found: dict[Slot, TaskBody] = {}
        for name, (source, definition) in chosen.items():
            task, values = tasks[name], self._values(tasks[name], source)
            wanted = {key: task[key] or None for key in (schema.CAPABILITIES, schema.RUN_AS)}
            told: HeatOrigin = {**heat, "digest": definitions.digest_of(salt, source, values, wanted)}
            if required[name]:
                told["edges"] = []  # it waits for tasks of the workflow, and they for Heat
            values = inline.inlined(values, history) if action in TAKING_DOWN else values
            body = self._body(name, task, definition, values, action)
            body["requires"], body["heat"] = required[name], told
            for member, server in (task[SERVERS] or {}).items():
                found[Slot(name, str(member))] = {**body, "server": str(server)}
            if task[SERVERS] is None:
                found[Slot(name)] = body
        return found

    def _body(
        self, name: str, task: Mapping[str, Any], definition: Definition, values: dict[str, Json], action: str
    ) -> TaskBody:
        derived = self._derived_inputs(task, action)
        own = self.properties[schema.TIMEOUT]
        body = {
            **{key: task[key] for key in PASSED_ON if task[key] not in (None, [])},
            "name": name,
            "definition": definitions.with_values(definition, values, derived),
            "input_values": {**values, **derived},
            "action": action,
            "on_interrupt": task[schema.ON_INTERRUPT].lower(),
            "deadline": origin.deadline(self) if own is None else min(origin.deadline(self), own),
        }
        if task[BATCH] is not None and action not in TAKING_DOWN:
            body["batch"] = dict(task[BATCH])
        if task[schema.UNDO] and action != self.DELETE:
            undo = task[schema.UNDO]
            by_id = isinstance(undo, str)
            body["undo"] = definitions.read_config(self, undo) if by_id else definitions.as_definition(undo)
        return cast(TaskBody, body)

    def _values(self, task: Mapping[str, Any], source: Definition) -> dict[str, Json]:
        """The task's own input values, and those of the workflow that its config asks for."""
        declared = {str(io["name"]) for io in source["inputs"]}
        shared: Mapping[str, Json] = self.properties[schema.INPUT_VALUES] or {}
        own: Mapping[str, Json] = task[schema.INPUT_VALUES] or {}
        return {**{name: value for name, value in shared.items() if name in declared}, **own}

    def _derived_inputs(self, task: Mapping[str, Any], action: str) -> dict[str, Json]:
        """What Heat tells every deployment; no credential is among it."""
        own_server: Json = {"get_server": "id"}
        return {
            "deploy_server_id": own_server if task[SERVERS] is not None else task[schema.SERVER] or "",
            "deploy_action": action,
            "deploy_stack_id": self.stack.identifier().stack_path(),
            "deploy_resource_name": str(self.name),
        }

    def _source(self, task: Mapping[str, Any], action: str) -> Definition | None:
        """What the template asks to run; None for a DELETE whose config is already gone."""
        if task[schema.DEFINITION]:
            return definitions.as_definition(task[schema.DEFINITION])
        try:
            return definitions.read_config(self, task[schema.CONFIG])
        except definitions.UnknownConfig:
            if action == self.DELETE:
                return None
            raise

    def _actions(self) -> list[str]:
        return [action.upper() for action in self.properties[schema.ACTIONS]]

    def _tasks(self) -> dict[str, Any]:
        """The tasks as the template gives them, each checked against the fields that there are."""
        if self._read is None or self._read[0] is not self.properties:
            given = self.properties[TASKS] or {}
            self._read = (self.properties, {str(name): self._fields(str(name), task) for name, task in given.items()})
        return self._read[1]

    def _fields(self, name: str, task: Any) -> Any:
        if not isinstance(task, Mapping):
            self._refuse(f"task {name} is no map")
        fields = heat_properties.Properties(task_fields, task, parent_name=name, context=self.context)
        try:
            fields.validate()
        except exception.StackValidationFailed as wrong:
            self._refuse(f"task {name}: {wrong.error_message or wrong}")
        return fields

    def parts(self) -> dict[str, list[tuple[str, str]]]:
        """By task, what it waits for and by which words: for the plan, which knows Heat's resources and no more."""
        found: dict[str, list[tuple[str, str]]] = {}
        for name, task in self._tasks().items():
            said = [(str(other), "requires") for other in task[REQUIRES] or ()]
            values = task[schema.INPUT_VALUES] or {}
            said += [(source, f"get_output: {source}.{output}") for _, source, output in inline.references(values)]
            found[name] = said
        return found

    # -- validation --------------------------------------------------------------------------------------------

    def _validate_tasks(self) -> None:
        """Refuse, before anything is created, what could never run."""
        tasks = self._tasks()
        outputs: dict[str, list[str] | None] = {}
        for name, task in tasks.items():
            written = self._written(name, task)
            known = self._known_definition(task, written)
            outputs[name] = None if known is None else [str(output["name"]) for output in known["outputs"]]
            self._validate_task(name, written, known)
        for wrong in inline.mistakes(tasks, outputs):
            self._refuse(wrong)
        if self.properties[ON_FAILURE] == "undo" and not self.properties[SEALED]:
            self._refuse("on_failure: undo needs a sealed workflow: an open one never ends")

    def _written(self, name: str, task: Mapping[str, Any]) -> Mapping[str, Any]:
        """The task's fields before anything is resolved: what is not known yet is given all the same."""
        raw = self.properties.data.get(TASKS)
        written = raw.get(name) if isinstance(raw, Mapping) else None
        return written if isinstance(written, Mapping) else {key: task[key] for key in task_fields}

    def _validate_task(self, name: str, written: Mapping[str, Any], known: Definition | None) -> None:
        given = {key for key, value in written.items() if value is not None and value != []}
        if len(given & {schema.CONFIG, schema.DEFINITION}) != 1:
            self._refuse(f"task {name}: give either 'config' or 'definition'")
        if {SERVERS, schema.SERVER} <= given:
            self._refuse(f"task {name}: give 'server' or 'servers', not both")
        if not given & {SERVERS, schema.SERVER, schema.CAPABILITIES}:
            self._refuse(f"task {name}: say where it runs: give 'server', 'servers' or 'capabilities'")
        if BATCH in given and SERVERS not in given:
            self._refuse(f"task {name}: 'batch' takes servers in turn; give 'servers'")
        if known is not None and (error := definitions.group_error(known["group"])):
            self._refuse(f"task {name}: {error}")

    def _known_definition(self, task: Mapping[str, Any], written: Mapping[str, Any]) -> Definition | None:
        if task[schema.DEFINITION]:
            return definitions.as_definition(task[schema.DEFINITION])
        return asked.known_config(self, written.get(schema.CONFIG), task[schema.CONFIG])

    def _refuse(self, why: str) -> None:
        raise exception.StackValidationFailed(message=f"workflow {self.name}: {why}")
