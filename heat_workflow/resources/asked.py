# SPDX-License-Identifier: Apache-2.0
"""Asked: what the author of a task or a group of tasks wants run, made into the body of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from heat.common import exception
from heat.engine import function
from heat.engine.resources.openstack.heat import software_config

from heat_workflow.resources import definitions, origin, schema, value_types
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
    CREATE: str
    DELETE: str

    passed_on: tuple[str, ...] = PASSED_ON

    def _asked(self, action: str) -> tuple[Definition, TaskBody] | None:
        """What the template holds, and what this action asks to run of it; None if it runs nothing."""
        source = self._source(action)
        definition = source and definitions.for_action(source, action, self._actions())
        if source is None or definition is None:
            return None
        properties = self.properties
        values: dict[str, Json] = dict(properties[schema.INPUT_VALUES] or {})
        derived = self._derived_inputs(action)
        definition = self._tailored(definition, {**values, **derived})
        passed_on = {name: properties[name] for name in self.passed_on if properties[name] not in (None, [])}
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

    def _refuse_contradictions(self, places: Iterable[str]) -> None:
        """Refuse what says two things at once, or not where it is to run."""
        given = self.properties.data
        if given.get(schema.CONFIG) is not None and given.get(schema.DEFINITION) is not None:
            self._refuse("give 'config' or 'definition', not both")
        if all(given.get(place) in (None, []) for place in places):
            self._refuse("say where it runs: give 'server', or 'capabilities' that an agent must have")

    def _refuse_wrong_values(self, known: Definition) -> None:
        """Refuse a value that is not of the type that the config declares for its input."""
        wrong = value_types.find_wrong_value(known, self.properties.data.get(schema.INPUT_VALUES))
        if wrong:
            self._refuse(wrong)

    def _refuse(self, why: str) -> None:
        raise exception.StackValidationFailed(message=f"task {self.name}: {why}")

    def _known_definition(self) -> Definition | None:
        """The definition as far as it is known before anything is made; an id that names no config is refused here."""
        given = self.properties[schema.DEFINITION]
        if given:
            return definitions.as_definition(given)
        return known_config(self, self.properties.data.get(schema.CONFIG), self.properties[schema.CONFIG])


def known_config(resource: Any, reference: Any, config_id: str | None) -> Definition | None:
    """The config that is referred to, as far as it is known before anything is made; None if it is not yet."""
    for dependency in function.dependencies(reference):
        config = resource.stack.get(dependency.name)
        known = isinstance(config, software_config.SoftwareConfig)
        return definitions.of_resource(config) if known else None
    if not config_id or not resource.stack.strict_validate:
        return None
    try:
        return definitions.read_config(resource, config_id)
    except definitions.UnknownConfig as unknown:
        raise exception.StackValidationFailed(message=str(unknown)) from unknown


def replaces(body: TaskBody, task: Task) -> bool:
    """Whether an input that asks for it has another value than the task was given: then it is created anew."""
    definition, given = body["definition"], task.get("input_values") or {}
    known = set(given) - set(task.get("hidden_inputs") or ())
    return any(
        given[name] != body["input_values"].get(name, definitions.default_of(definition, name))
        for name in definitions.replacing_inputs(definition)
        if name in known
    )
