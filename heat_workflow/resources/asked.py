# SPDX-License-Identifier: Apache-2.0
"""Asked: what the author of a task or a group of tasks wants run, made into the body of a request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn, cast

from heat.common import exception
from heat.engine import function
from heat.engine.attributes import ALL_ATTRIBUTES
from heat.engine.resources.openstack.heat import software_config

from heat_workflow.resources import definitions, inline, known, origin, readers, schema, value_types
from heat_workflow.resources.known import KnownDefinition
from heat_workflow.resources.runs import APPLYING
from heat_workflow.shapes import Definition, Json, Task, TaskBody

PASSED_ON = (
    schema.CAPABILITIES,
    schema.TIMEOUT,
    schema.PICKUP_TIMEOUT,
    schema.MAX_ATTEMPTS,
    schema.RETRY_DELAY,
    schema.RUN_AS,
    schema.PRIORITY,
    schema.CONCURRENCY_KEY,
    schema.HIDDEN_INPUTS,
    schema.HIDDEN_OUTPUTS,
    schema.ENVIRONMENT_INPUTS,
)


class Asked:
    """The part of a resource that reads what is wanted from its properties. The rest of it is a Heat resource."""

    properties: Any
    stack: Any
    name: Any
    context: Any
    t: Any
    attributes: Any
    action: Any
    status: Any
    _add_event: Any
    CREATE: str
    DELETE: str

    _told_of_nothing = False

    passed_on: tuple[str, ...] = PASSED_ON
    places: tuple[str, ...]  # the properties that say where it runs

    def _asked(self, action: str) -> tuple[Definition, TaskBody] | None:
        """What the template holds, and what this action asks to run of it; None if it runs nothing."""
        if action == self.DELETE and not self._is_readable():
            return None
        source = self._source(action)
        definition = source and definitions.for_action(source, action, self._actions())
        if source is None or definition is None:
            return None
        if action in APPLYING:
            self._refuse_at_run_time()
            self._tell_of_nothing(definition)
        properties = self.properties
        values: dict[str, Json] = dict(properties[schema.INPUT_VALUES] or {})
        derived = self._derived_inputs(action)
        definition = self._tailored(definition, {**values, **derived})
        passed_on = {name: properties[name] for name in self.passed_on if properties[name] not in (None, [], "")}
        body = {
            **passed_on,
            "definition": definitions.with_values(definition, values, derived),
            "input_values": {**values, **derived},
            "action": action,
            "on_interrupt": properties[schema.ON_INTERRUPT].lower(),
            "deadline": origin.deadline(self),
        }
        if properties[schema.UNDO] and action != self.DELETE:
            body["undo"] = self._definition_of(properties[schema.UNDO])
        return source, cast(TaskBody, body)

    def _tell_of_nothing(self, definition: Definition) -> None:
        """Tell the stack's owner, once, if no hook will run this: it is recorded all the same."""
        why = definitions.nothing_to_run(definition)
        if why and not self._told_of_nothing:
            self._told_of_nothing = True
            self._add_event(self.action, self.status, f"task {self.name}: {why}")

    def _is_readable(self) -> bool:
        """Whether all properties make sense. Those that came out wrong failed the resource; nothing ran by them."""
        try:
            return all(True for _ in self.properties.values())
        except (ValueError, TypeError):
            return False

    def _refuse_at_run_time(self) -> None:
        """Refuse what only showed when everything was known."""
        properties = self.properties
        if properties[schema.CONFIG] and properties[schema.DEFINITION]:
            self._refuse("give 'config' or 'definition', not both")
        if not any(properties[place] for place in self.places):
            self._refuse(f"it is not said where it runs: {' and '.join(map(repr, self.places))} came out empty")
        self._refuse_foreign_outputs(properties[schema.INPUT_VALUES], strict=True)

    def _tailored(self, definition: Definition, values: Mapping[str, Json]) -> Definition:
        """The definition with what this type of resource writes into it."""
        return definition

    def _also_wanted(self) -> dict[str, Json]:
        """What else than config, values and place makes two pieces of work different."""
        return {}

    def _source(self, action: str) -> Definition | None:
        """What the template asks to run, whichever action; None for a DELETE whose config is already gone."""
        given = self.properties[schema.DEFINITION]
        config_id = self.properties[schema.CONFIG]
        if given:
            return definitions.as_definition(given)
        if not config_id:
            return definitions.as_definition({})
        try:
            return definitions.read_config(self, config_id)
        except definitions.UnknownConfig:
            if action == self.DELETE:
                return None
            raise

    def _definition_of(self, given: Any) -> Definition:
        return definitions.read_config(self, given) if isinstance(given, str) else definitions.as_definition(given)

    def _actions(self) -> list[str]:
        return [action.upper() for action in self.properties[schema.ACTIONS]]

    def _awaited(self, definition: Definition) -> bool:
        """Ungrouped work has no hook that could run it, and NO_SIGNAL says not to wait: it is only recorded."""
        transport = self.properties[schema.SIGNAL_TRANSPORT].upper()
        return transport != schema.NO_SIGNAL and definition["group"] != definitions.UNGROUPED

    def _derived_inputs(self, action: str) -> dict[str, Json]:
        """What Heat tells every deployment; no credential is among it."""
        return {
            "deploy_server_id": self._told_server(),
            "deploy_action": action,
            "deploy_stack_id": self.stack.identifier().stack_path(),
            "deploy_resource_name": self._told_name(),
            "deploy_signal_transport": self.properties[schema.SIGNAL_TRANSPORT].upper(),
        }

    def _told_server(self) -> Json:
        return self.properties[schema.SERVER] or ""

    def _told_name(self) -> Json:
        return str(self.name)

    def _exposes_hidden(self) -> bool:
        return bool(self.properties[schema.EXPOSE_HIDDEN])

    # -- validation --------------------------------------------------------------------------------------------

    def _validate_asked(self) -> None:
        """Refuse, before anything is created, what could never run, as far as it is known."""
        self._refuse_contradictions()
        strict, values = self.stack.strict_validate, self.properties.data.get(schema.INPUT_VALUES)
        self._refuse_foreign_outputs(values, strict)
        definition = self._known_definition() or KnownDefinition(None, None, None, None)
        if definition.group is not None and (error := definitions.group_error(definition.group)):
            self._refuse(error)
        declared = definition.outputs
        paths = list(readers.readers_of(self))
        for _, path in paths:
            self._refuse_undeclared(path, declared)
        self._refuse_hidden_reads(paths, declared)
        hidden = known.names_in(self.properties.data.get(schema.HIDDEN_INPUTS) or (), strict)
        if wrong := value_types.find_wrong_value(definition.inputs or (), values, strict, hidden):
            self._refuse(wrong)

    def _refuse_contradictions(self) -> None:
        """Refuse what says two things at once, or not where it is to run."""
        given, strict = self.properties.data, self.stack.strict_validate
        keys = (schema.CONFIG, schema.DEFINITION, *self.places)
        has = {key: known.find_given(given.get(key), strict) for key in keys}
        if has[schema.CONFIG] and has[schema.DEFINITION]:
            self._refuse("give 'config' or 'definition', not both")
        if all(has[place] is False for place in self.places):
            self._refuse(f"say where it runs: give {' or '.join(map(repr, self.places))}")

    def _refuse_foreign_outputs(self, values: Any, strict: bool) -> None:
        """Refuse an input from another task's output by the word for it inside a Workflow, where it finds none."""
        if self.properties.data.get(schema.WORKFLOW) is not None or not isinstance(values, Mapping):
            return
        before = self.t.required_resource_names()
        for name, value in values.items():
            source = inline.reference_of(value)
            if source is None or known.is_unknown(source, strict):
                continue
            task, output = inline.source_of(source) or ("?", "?")
            if task not in before and "/" not in task:
                self._refuse(
                    f"input {name}: get_output takes outputs of tasks inside one Workflow, and {task} is none; use "
                    f"get_attr: [{task}, {output}]"
                )

    def _refuse_undeclared(self, path: readers.Path, declared: Collection[str] | None) -> None:
        """Refuse an output that is read and that neither the config nor the type declares."""
        name = self._output_read(path, declared)
        if declared is None or not name or name == ALL_ATTRIBUTES or name in declared:
            return
        inside = path[0] == schema.OUTPUTS  # there nothing but outputs is read
        if inside or not (path[0] in self.attributes or path[0] in self._attribute_names(declared)):
            self._refuse(f"there is no output {name}: its config declares {', '.join(sorted(declared)) or 'none'}")

    def _attribute_names(self, declared: Collection[str]) -> Collection[str]:
        """The names under which get_attr reads the declared outputs."""
        return declared

    def _refuse_hidden_reads(self, paths: Iterable[tuple[str, readers.Path]], declared: Collection[str] | None) -> None:
        """Refuse a hidden output that get_attr reads: it would fail when both have run."""
        strict, given = self.stack.strict_validate, self.properties.data
        exposed = known.find_given(given.get(schema.EXPOSE_HIDDEN), strict)
        if exposed is None or (exposed and self._exposes_hidden()):
            return
        hidden = known.names_in(given.get(schema.HIDDEN_OUTPUTS) or (), strict)
        for reader, path in paths if hidden else ():
            output = self._output_read(path, declared)
            if output is not None and output in hidden:
                instead = "set expose_hidden to let Heat read it and store it in clear"
                self._refuse(readers.hidden_read(output, reader, instead))

    def _output_read(self, path: readers.Path, declared: Collection[str] | None) -> str | None:
        """The single output that is read by this path, None if it is none, or not known."""
        if path[0] == schema.OUTPUTS and schema.OUTPUTS not in (declared or ()):
            path = path[1:]
        return str(path[0]) if path else None

    def _refuse(self, why: str) -> NoReturn:
        raise exception.StackValidationFailed(message=f"task {self.name}: {why}")

    def _known_definition(self) -> KnownDefinition | None:
        """The definition as far as it is known before anything is made; an id that names no config is refused here."""
        given, strict = self.properties.data, self.stack.strict_validate
        if known.find_given(given.get(schema.DEFINITION), strict) is not False:
            return known.known_definition(given.get(schema.DEFINITION), strict)
        return known_config(self, given.get(schema.CONFIG))


def known_config(resource: Any, reference: Any) -> KnownDefinition | None:
    """The config that is referred to, as far as it is known before anything is made; None if it is not yet."""
    strict = resource.stack.strict_validate
    named = [each.name for each in function.dependencies(reference)]
    config = resource.stack.get(named[0]) if len(named) == 1 else None
    if isinstance(config, software_config.SoftwareConfig) and function.resolve(reference) == config.FnGetRefId():
        group = definitions.COMPONENT if "configs" in config.properties_schema else None
        return known.known_definition(config.properties.data, strict, group)
    config_id = known.resolved(reference, strict)
    if not config_id or not strict:
        return None
    try:
        return known.known_definition(definitions.read_config(resource, str(config_id)), strict)
    except definitions.UnknownConfig as missing:
        raise exception.StackValidationFailed(message=str(missing)) from missing


def replaces(body: TaskBody, task: Task) -> bool:
    """Whether an input that asks for it has another value than the task was given: then it is created anew."""
    definition, given = body["definition"], task.get("input_values") or {}
    known = set(given) - set(task.get("hidden_inputs") or ())
    return any(
        given[name] != body["input_values"].get(name, definitions.default_of(definition, name))
        for name in definitions.replacing_inputs(definition)
        if name in known
    )
