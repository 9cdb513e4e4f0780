# SPDX-License-Identifier: Apache-2.0
"""Structured: the types whose config is a map into which input values are written before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heat.common import exception
from heat.common.i18n import _
from heat.engine import constraints, properties, support
from heat.engine.resources.openstack.heat import structured_config

from heat_workflow.resources import definitions, group_schema, known, schema
from heat_workflow.resources.asked import Asked
from heat_workflow.resources.group import TaskGroupResource
from heat_workflow.resources.task import TaskResource
from heat_workflow.shapes import Definition, Json

_Stock = structured_config.StructuredDeployment
INPUT_KEY, INPUT_VALUES_VALIDATE = _Stock.INPUT_KEY, _Stock.INPUT_VALUES_VALIDATE
LAX, STRICT = "LAX", "STRICT"

_Schema = properties.Schema
structured_properties = {
    INPUT_KEY: _Schema(
        _Schema.STRING,
        _("A map in the config with this one key, and an input's name under it, is replaced by the input's value."),
        default="get_input",
        update_allowed=True,
    ),
    INPUT_VALUES_VALIDATE: _Schema(
        _Schema.STRING,
        _("STRICT: an input that the config asks for has to be declared or given. LAX: it is null if it is not."),
        default=LAX,
        constraints=[constraints.AllowedValues([LAX, STRICT, LAX.lower(), STRICT.lower()])],
        update_allowed=True,
    ),
}


def asked_for(snippet: Any, key: str) -> str | None:
    """The input that this part of a config stands for, None if it stands for itself."""
    if not isinstance(snippet, Mapping) or len(snippet) != 1:
        return None
    name = snippet.get(key)
    return name if isinstance(name, str) else None


def inputs_of(config: Any, key: str) -> set[str]:
    """The inputs that a config asks for."""
    name = asked_for(config, key)
    if name is not None:
        return {name}
    parts = config.values() if isinstance(config, Mapping) else config if isinstance(config, (list, tuple)) else ()
    return {found for part in parts for found in inputs_of(part, key)}


def written(config: Any, key: str, values: Mapping[str, Json]) -> Json:
    """The config with every input it asks for in its place, null where there is no value."""
    name = asked_for(config, key)
    if name is not None:
        return values.get(name)
    if isinstance(config, Mapping):
        return {str(part): written(value, key, values) for part, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [written(part, key, values) for part in config]
    plain: Json = config
    return plain


class Structured(Asked):
    """What a structured type does to its definition."""

    def _tailored(self, definition: Definition, values: Mapping[str, Json]) -> Definition:
        defaults = {str(io["name"]): io.get("default") for io in definition["inputs"]}
        key, known = self.properties[INPUT_KEY], {**defaults, **values}
        if isinstance(definition["config"], str):
            return definition
        self._refuse_inputs(inputs_of(definition["config"], key), known)
        return {**definition, "config": written(definition["config"], key, known)}

    def _refuse_inputs(self, wanted: set[str], known: Mapping[str, Json]) -> None:
        missing = sorted(wanted - known.keys())
        if missing and self.properties[INPUT_VALUES_VALIDATE].upper() == STRICT:
            raise exception.UserParameterMissing(key=missing[0])
        hidden = sorted(wanted & set(self.properties[schema.HIDDEN_INPUTS] or ()))
        if hidden:
            self._refuse(f"input {hidden[0]} is hidden: written into the config, everybody could read it")
        shared = sorted(name for name in wanted if _is_own(known.get(name)))
        if shared:
            self._refuse(f"the config is one for all servers: it cannot hold {shared[0]}, of which each has its own")

    def _also_wanted(self) -> dict[str, Json]:
        return {INPUT_KEY: self.properties[INPUT_KEY]}

    def _validate_structure(self) -> None:
        """With STRICT, refuse what is asked for and not given, and what is given and wanted by nobody, early."""
        definition, strict, given = self._known_definition(), self.stack.strict_validate, self.properties.data
        relied_on = (INPUT_KEY, INPUT_VALUES_VALIDATE, schema.INPUT_VALUES)
        if definition is None or any(known.is_unknown(_names_of(given.get(name)), strict) for name in relied_on):
            return
        if definition.config is None or isinstance(definition.config, str) or definition.inputs is None:
            return
        if definition.group == definitions.COMPONENT or self.properties[INPUT_VALUES_VALIDATE].upper() != STRICT:
            return
        declared = {str(io["name"]) for io in definition.inputs}
        values = set(self.properties[schema.INPUT_VALUES] or {})
        asked = inputs_of(definition.config, self.properties[INPUT_KEY])
        missing = sorted(asked - declared - values - self._derived_inputs("CREATE").keys())
        if missing:
            self._refuse(f"the config asks for input {missing[0]}, which is neither declared nor given (STRICT)")
        unwanted = sorted(values - declared - asked)
        if unwanted:
            self._refuse(f"a value is given for input {unwanted[0]}, which the config does not declare (STRICT)")


def _names_of(values: Any) -> Any:
    """Of a map what tells its names: what the values are may be unknown."""
    return None if isinstance(values, Mapping) else values


def _is_own(value: Json) -> bool:
    return isinstance(value, dict) and set(value) == {"get_server"}


class StructuredTaskResource(Structured, TaskResource):
    """Runs a structured config on a server: a map, in which input values stand where it asks for them.

    It takes the properties of OS::Heat::StructuredDeployment and is an OS::HeatWorkflow::Task otherwise.
    """

    support_status = support.SupportStatus(version="1.0.0")
    properties_schema = {**schema.task_properties, **structured_properties}

    def validate(self) -> Any:
        result = super().validate()
        self._validate_structure()
        return result


class StructuredTaskGroupResource(Structured, TaskGroupResource):
    """Runs a structured config on many servers; an OS::HeatWorkflow::TaskGroup otherwise."""

    support_status = support.SupportStatus(version="1.0.0")
    properties_schema = {**group_schema.group_properties, **structured_properties}

    def validate(self) -> Any:
        result = super().validate()
        self._validate_structure()
        return result
