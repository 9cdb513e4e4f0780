# SPDX-License-Identifier: Apache-2.0
"""Inline tasks: the tasks in a workflow's properties, made into requests, or refused in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NoReturn, cast

from heat.common import exception
from heat.engine import function
from heat.engine import properties as heat_properties

from heat_workflow.resources import asked, definitions, inline, known, origin, readers, schema, slots, value_types
from heat_workflow.resources.known import KnownDefinition
from heat_workflow.resources.runs import APPLYING
from heat_workflow.resources.schema import OUTPUTS
from heat_workflow.resources.servers import servers_of, wrong_servers
from heat_workflow.resources.slots import History, Slot
from heat_workflow.resources.workflow_schema import (
    BATCH,
    ON_FAILURE,
    REQUIRES,
    SEALED,
    SERVERS,
    STATES,
    TASKS,
    task_fields,
)
from heat_workflow.shapes import Definition, HeatOrigin, Json, TaskBody

PASSED_ON = (*asked.PASSED_ON, schema.SERVER)
TAKING_DOWN = ("DELETE", "SUSPEND")  # what is built on others goes first


class InlineTasks:
    """The part of a workflow resource that reads its tasks. The rest of it is a Heat resource."""

    properties: Any
    stack: Any
    name: Any
    context: Any
    action: Any
    status: Any
    _add_event: Any
    _before: Any
    DELETE: str

    _told_of_nothing = False
    _read: tuple[Any, bool, dict[str, Any]] | None = None  # properties, and the tasks in them

    def _bodies(self, action: str, salt: str, history: History) -> dict[Slot, TaskBody]:
        """What this action runs, by slot; outputs in ``history`` are for what is taken down."""
        over = action == self.DELETE or self.properties is self._before  # what was refused may go, and be replaced
        tasks = self._tasks(forgiving=over)
        if action in APPLYING and not over:
            self._refuse_mistakes({})
            self._refuse_undo_of_open()
        chosen = {}
        for name, task in tasks.items():
            source = self._source(task, action)
            definition = source and definitions.for_action(source, action, self._actions())
            if source is not None and definition is not None:
                chosen[name] = (source, definition)
        if action in APPLYING:
            self._tell_of_nothing({name: definition for name, (_, definition) in chosen.items()})
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
            for member, server in servers_of(task[SERVERS]).items():
                found[Slot(name, member)] = {**body, "server": server}
            if task[SERVERS] is None:
                found[Slot(name)] = body
        return found

    def _tell_of_nothing(self, chosen: Mapping[str, Definition]) -> None:
        """Tell the stack's owner, once, which tasks no hook will run."""
        empty = {name: why for name, definition in chosen.items() if (why := definitions.nothing_to_run(definition))}
        if empty and not self._told_of_nothing:
            self._told_of_nothing = True
            what = slots.listed([f"task {name}: {why}" for name, why in empty.items()])
            self._add_event(self.action, self.status, what)

    def _body(
        self, name: str, task: Mapping[str, Any], definition: Definition, values: dict[str, Json], action: str
    ) -> TaskBody:
        derived = self._derived_inputs(task, action)
        own = self.properties[schema.TIMEOUT]
        body = {
            **{key: task[key] for key in PASSED_ON if task[key] not in (None, [], "")},
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

    def _tasks(self, forgiving: bool = False) -> dict[str, Any]:
        """The tasks as the template gives them, each checked against the fields that there are.

        What is not known yet, before anything is made, is not among them. ``forgiving`` leaves out what is wrong.
        """
        if self._read is None or self._read[0] is not self.properties or self._read[1] is not forgiving:
            tasks = {name: self._fields(name, task, forgiving) for name, task in self._written().items()}
            kept = {name: fields for name, fields in tasks.items() if fields is not None}
            self._read = (self.properties, forgiving, kept)
        return self._read[2]

    def _written(self) -> dict[str, Any]:
        """The tasks by name before anything in them is resolved, as far as their names are known."""
        raw, strict = self.properties.data.get(TASKS), self.stack.strict_validate
        given = known.resolved(raw, strict) if isinstance(raw, function.Function) else raw
        return {str(name): task for name, task in given.items()} if isinstance(given, Mapping) else {}

    def _fields(self, name: str, written: Any, forgiving: bool) -> Any:
        strict = self.stack.strict_validate
        if isinstance(written, function.Function):
            if known.is_unknown(written, strict):
                return None
            written = function.resolve(written)
        if not isinstance(written, Mapping):
            return None if forgiving else self._refuse(f"task {name} is no map")
        given = {key: value for key, each in written.items() if (value := _plain(key, each, strict)) is not Ellipsis}
        fields = heat_properties.Properties(
            task_fields, given, resolver=function.resolve, parent_name=name, context=self.context
        )
        try:
            fields.validate(with_value=strict)
        except exception.StackValidationFailed as wrong:
            return None if forgiving else self._refuse(f"task {name}: {wrong}")
        return fields

    def parts(self) -> dict[str, list[tuple[str, str]]]:
        """By task, what it waits for and by which words: for the plan, which knows Heat's resources and no more."""
        found: dict[str, list[tuple[str, str]]] = {name: [] for name in self._written()}
        for name, task in self._tasks().items():
            edges = self._known_edges(task)
            said = [(other, "requires") for other in edges[REQUIRES]]
            sources = inline.references(edges[schema.INPUT_VALUES])
            found[name] = said + [(source, f"get_output: {source}.{output}") for _, source, output in sources]
        return found

    # -- validation --------------------------------------------------------------------------------------------

    def _validate_tasks(self) -> None:
        """Refuse, before anything is created, what could never run, as far as it is known."""
        outputs: dict[str, Collection[str] | None] = {}
        for name, task in self._tasks().items():
            definition = self._known_definition(task)
            outputs[name] = None if definition is None else definition.outputs
            self._validate_task(name, task.data, definition)
        self._refuse_mistakes(outputs)
        self._refuse_unknown_reads(outputs)
        self._refuse_hidden_reads()
        strict, given = self.stack.strict_validate, self.properties.data
        if not any(known.is_unknown(given.get(name), strict) for name in (ON_FAILURE, SEALED)):
            self._refuse_undo_of_open()

    def _refuse_mistakes(self, outputs: Mapping[str, Collection[str] | None]) -> None:
        """Refuse edges that lead nowhere or in a circle, and what says two things at once."""
        tasks: dict[str, Mapping[str, Any]] = {name: {} for name in self._written()}
        for name, task in self._tasks().items():
            self._refuse_contradictions(name, task.data)
            tasks[name] = self._known_edges(task)
        for wrong in inline.mistakes(tasks, outputs):
            self._refuse(wrong)

    def _refuse_undo_of_open(self) -> None:
        if self.properties[ON_FAILURE] == "undo" and not self.properties[SEALED]:
            self._refuse("on_failure: undo needs a sealed workflow: an open one never ends")

    def _known_edges(self, task: Any) -> dict[str, Any]:
        """What the task waits for, as far as it is known."""
        strict, values = self.stack.strict_validate, task.data.get(schema.INPUT_VALUES)
        if isinstance(values, function.Function):
            values = known.resolved(values, strict)
        asked_for = values.items() if isinstance(values, Mapping) else ()
        return {
            REQUIRES: known.names_in(task.data.get(REQUIRES) or (), strict),
            schema.INPUT_VALUES: {name: function.resolve(each) for name, each in asked_for if _is_known(each, strict)},
        }

    def _refuse_contradictions(self, name: str, written: Mapping[str, Any]) -> None:
        strict = self.stack.strict_validate
        given = {key: known.find_given(value, strict) for key, value in written.items()}
        sources = [given.get(key, False) for key in (schema.CONFIG, schema.DEFINITION)]
        if sources.count(True) > 1 or not any(each is not False for each in sources):
            self._refuse(f"task {name}: give either 'config' or 'definition'")
        if given.get(SERVERS) and given.get(schema.SERVER):
            self._refuse(f"task {name}: give 'server' or 'servers', not both")
        if all(given.get(place, False) is False for place in (SERVERS, schema.SERVER, schema.CAPABILITIES)):
            self._refuse(f"task {name}: say where it runs: give 'server', 'servers' or 'capabilities'")
        if given.get(BATCH) and given.get(SERVERS, False) is False:
            self._refuse(f"task {name}: 'batch' takes servers in turn; give 'servers'")

    def _validate_task(self, name: str, written: Mapping[str, Any], definition: KnownDefinition | None) -> None:
        if wrong := wrong_servers(written.get(SERVERS)):
            self._refuse(f"task {name}: {wrong}")
        if definition is None:
            return
        if definition.group is not None and (error := definitions.group_error(definition.group)):
            self._refuse(f"task {name}: {error}")
        strict, inputs = self.stack.strict_validate, definition.inputs or ()
        hidden = known.names_in(written.get(schema.HIDDEN_INPUTS) or (), strict)
        for values in (written.get(schema.INPUT_VALUES), self.properties.data.get(schema.INPUT_VALUES)):
            if wrong := value_types.find_wrong_value(inputs, values, strict, hidden):
                self._refuse(f"task {name}: {wrong}")

    def _known_definition(self, task: Any) -> KnownDefinition | None:
        written, strict = task.data, self.stack.strict_validate
        if known.find_given(written.get(schema.DEFINITION), strict) is not False:
            return known.known_definition(written.get(schema.DEFINITION), strict)
        return asked.known_config(self, written.get(schema.CONFIG))

    def _refuse_unknown_reads(self, outputs: Mapping[str, Collection[str] | None]) -> None:
        """Refuse a task or an output that get_attr picks and that there is not: it would read null."""
        tasks = self._written()
        if known.is_unknown(_names_of(self.properties.data.get(TASKS)), self.stack.strict_validate):
            return
        for reader, path in readers.readers_of(self):
            task, output = ([str(each) if each else None for each in path[1:3]] + [None, None])[:2]
            if path[0] not in (OUTPUTS, STATES) or task is None:
                continue
            if task not in tasks:
                self._refuse(f"{reader} reads {path[0]} of {task}, which is no task of this workflow")
            declared = outputs.get(task)
            if path[0] == OUTPUTS and output and declared is not None and output not in declared:
                known_ones = ", ".join(sorted(declared)) or "none"
                self._refuse(f"{reader} reads output {output} of task {task}, whose config declares {known_ones}")

    def _refuse_hidden_reads(self) -> None:
        """Refuse a hidden output that get_attr picks: only get_output passes it on."""
        strict = self.stack.strict_validate
        given = {name: task.data.get(schema.HIDDEN_OUTPUTS) for name, task in self._tasks().items()}
        hidden = {name: known.names_in(outputs, strict) for name, outputs in given.items() if outputs is not None}
        for reader, path in readers.readers_of(self) if any(hidden.values()) else ():
            if len(path) > 2 and path[0] == OUTPUTS and str(path[2]) in hidden.get(str(path[1]), ()):
                instead = f"within the workflow get_output: [{path[1]}, {path[2]}] passes it on"
                self._refuse(f"task {path[1]}: {readers.hidden_read(str(path[2]), reader, instead)}")

    def _refuse(self, why: str) -> NoReturn:
        raise exception.StackValidationFailed(message=f"workflow {self.name}: {why}")


def _plain(key: str, value: Any, strict: bool) -> Any:
    """The value of a field as soon as its function can tell it: null is as good as none, which is Ellipsis.

    An attribute of a group is a list with an entry for each member: a single one is taken where a number is wanted.
    """
    if not isinstance(value, function.Function) or known.is_unknown(value, strict):
        return value
    plain = function.resolve(value, nullable=True)
    number = key in task_fields and task_fields[key].type in (
        heat_properties.Schema.NUMBER,
        heat_properties.Schema.INTEGER,
    )
    if number and isinstance(plain, list) and len(plain) == 1:
        plain = plain[0]
    return Ellipsis if plain is None else plain


def _names_of(tasks: Any) -> Any:
    """What tells the names of the tasks: what is in one may be unknown."""
    return None if isinstance(tasks, Mapping) else tasks


def _is_known(value: Any, strict: bool) -> bool:
    """Whether an input is known as far as it is an edge: only the source of a placeholder makes one."""
    source = inline.reference_of(value)
    return not known.is_unknown(value if source is None else source, strict)
