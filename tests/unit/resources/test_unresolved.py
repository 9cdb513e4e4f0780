# SPDX-License-Identifier: Apache-2.0
"""Every property of every type of ours may come from a function that cannot tell its value before anything is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from heat.engine import properties

from heat_workflow.plan.hot import read_template
from heat_workflow.plan.sources import Sources
from heat_workflow.resources import resource_mapping
from heat_workflow.resources.workflow_schema import task_fields

Schema = properties.Schema
DEFINITION = {"group": "script", "config": "true"}
INNER = "file:///inner.yaml"

# What each type needs besides the property that is looked at.
BASES: dict[str, dict[str, Any]] = {
    "Agent": {},
    "DeployedServer": {},
    "Server": {"flavor": "f", "image": "i"},
    "StructuredTask": {"definition": DEFINITION, "server": "s"},
    "StructuredTaskGroup": {"definition": DEFINITION, "servers": {"a": "s"}},
    "Task": {"definition": DEFINITION, "server": "s"},
    "TaskGroup": {"definition": DEFINITION, "servers": {"a": "s"}},
    "Workflow": {"tasks": {"one": {"definition": DEFINITION, "server": "s"}}},
}

ATTRIBUTES = [
    ["group", "refs_map"],
    ["group", "resource.0"],
    ["group", "attributes", "name"],
    ["group", "refs"],
    ["nested", "id"],
    ["value", "value"],
]
FORMS: dict[str, Any] = {
    **{".".join(path): {"get_attr": path} for path in ATTRIBUTES},
    "if": {"if": ["always", {"get_attr": ["value", "value"]}, "x"]},
}
TEXTS: dict[str, Any] = {
    "str_replace": {"str_replace": {"template": "a $b", "params": {"$b": {"get_attr": ["value", "value"]}}}},
    "list_join": {"list_join": ["", [{"get_attr": ["value", "value"]}]]},
}
PARAMETERS = {
    Schema.ANY: "json",
    Schema.BOOLEAN: "boolean",
    Schema.INTEGER: "number",
    Schema.LIST: "comma_delimited_list",
    Schema.MAP: "json",
    Schema.NUMBER: "number",
    Schema.STRING: "string",
}


def places(schema: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each property and each field in one, by the way to it: names, and 0 for an entry of a list."""
    for name, one in schema.items():
        kind = Schema.from_legacy(one)
        yield (*path, name), kind
        if kind.type == Schema.MAP and kind.schema:
            yield from places(kind.schema, (*path, name))
        if kind.type == Schema.LIST and kind.schema:
            entry = kind.schema[0]
            if entry.type != Schema.MAP:  # of inputs and outputs Heat wants to know the names, as in its own types
                yield (*path, name, 0), entry
            yield from places(entry.schema or {}, (*path, name, 0))


def all_places(kind: str) -> Iterator[tuple[tuple[Any, ...], Any]]:
    found = list(places(resource_mapping()[f"OS::HeatWorkflow::{kind}"].properties_schema))
    yield from found if kind != "Server" else [one for one in found if len(one[0]) == 1]  # the rest is Nova's
    if kind == "Workflow":
        yield ("tasks", "one"), Schema(Schema.MAP)
        yield from places(task_fields, ("tasks", "one"))
    if "Task" in kind:
        yield ("input_values", "x"), Schema(Schema.STRING)
    if "Group" in kind:
        yield ("servers", "a"), Schema(Schema.STRING)
    if kind == "Workflow":
        for way in (("servers", "a"), ("input_values", "x"), ("input_values", "x", "get_output", 0)):
            yield ("tasks", "one", *way), Schema(Schema.STRING)


def with_value(base: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The properties with the value in its place, without what contradicts it."""
    if not path:
        return value
    name, *rest = path
    if name == 0:
        return [with_value({}, tuple(rest), value)]
    inside = dict(base) if isinstance(base, dict) else {}
    if name == "config" and "definition" in inside:
        del inside["definition"]
    if name == "servers" and "server" in inside:
        del inside["server"]
    if name == "batch":
        inside["servers"] = {"a": inside.pop("server")}
    inside[name] = with_value(inside.get(name, {}), tuple(rest), value)
    if name in ("inputs", "outputs") and len(rest) > 1:
        inside[name][0].setdefault("name", "x")
    return inside


def resources(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, schema in all_places(kind):
        for form, value in {**FORMS, **(TEXTS if schema.type == Schema.STRING else {})}.items():
            own = with_value(BASES[kind], path, value)
            yield "-".join(map(str, (*path, form))), {"type": f"OS::HeatWorkflow::{kind}", "properties": own}


def problems(resources: dict[str, Any], files: dict[str, str], parameters: Any = None) -> list[str]:
    around = {
        "value": {"type": "OS::Heat::Value", "properties": {"value": 1}},
        "group": {
            "type": "OS::Heat::ResourceGroup",
            "properties": {"count": 1, "resource_def": {"type": "OS::Heat::DeployedServer"}},
        },
        "nested": {"type": "file:///node.yaml"},
    }
    template = {
        "heat_template_version": "2021-04-16",
        "conditions": {"always": True},
        "parameters": {name: {"type": "json"} for name in parameters or {}},
        "resources": {**around, **resources},
    }
    node = {"heat_template_version": "2021-04-16", "resources": {}, "outputs": {"id": {"value": "x"}}}
    given = {"parameters": parameters or {}}
    return list(read_template(Sources(template, given, {"file:///node.yaml": json.dumps(node), **files})).problems)


@pytest.mark.parametrize("kind", BASES)
def test_every_property_may_come_from_what_is_not_there_yet(kind: str) -> None:
    made = dict(resources(kind))
    assert len(made) > 20
    assert problems(made, {}) == []


@pytest.mark.parametrize("kind", BASES)
def test_every_property_may_come_from_a_parameter_of_a_nested_stack_that_is_not_known_yet(kind: str) -> None:
    inside, parameters = {}, {}
    for path, schema in all_places(kind):
        name = "-".join(map(str, path))
        parameters[name] = {"type": PARAMETERS[schema.type]}
        own = with_value(BASES[kind], path, {"get_param": name})
        inside[name] = {"type": f"OS::HeatWorkflow::{kind}", "properties": own}
    given = {name: {"get_attr": ["value", "value"]} for name in parameters}
    inner = {"heat_template_version": "2021-04-16", "parameters": parameters, "resources": {}}
    inner["resources"] = {f"r-{name}": one for name, one in inside.items()}
    assert problems({"inner": {"type": INNER, "properties": given}}, {INNER: json.dumps(inner)}) == []


HERE = {"definition": DEFINITION, "server": "s"}
GIVEN = {
    "list": ["s1", "s2"],
    "map": {"a": "s1"},
    "none": {"a": None},
    "deep": {"a": ["s1"]},
    "empty": {},
    "nothing": [],
}


def given(name: str) -> dict[str, Any]:
    return {"get_param": name}


@pytest.mark.parametrize(
    ("kind", "own", "words"),
    [
        (
            "TaskGroup",
            {"definition": DEFINITION, "servers": given("list")},
            "servers is a map of names to IDs; use refs_map",
        ),
        (
            "TaskGroup",
            {"definition": DEFINITION, "servers": ["a", "b"]},
            "servers is a map of names to IDs; use refs_map",
        ),
        ("TaskGroup", {"definition": DEFINITION, "servers": [{"get_attr": ["value", "value"]}]}, "use refs_map"),
        ("TaskGroup", {"definition": DEFINITION, "servers": "a,b"}, "use refs_map"),
        ("TaskGroup", {"definition": DEFINITION, "servers": given("none")}, "servers: a has no ID but null"),
        ("TaskGroup", {"definition": DEFINITION, "servers": given("deep")}, 'servers: a has no ID but \\["s1"\\]'),
        ("TaskGroup", {"definition": DEFINITION, "servers": {"a": ""}}, 'servers: a has no ID but ""'),
        ("Task", {"definition": DEFINITION, "capabilities": given("nothing")}, "say where it runs"),
        ("Task", {"definition": given("map"), "config": "c", "server": "s"}, "Unknown Property a"),
        ("Workflow", {"tasks": {"a": {"definition": DEFINITION, "servers": given("list")}}}, "task a: .*use refs_map"),
        ("Workflow", {"tasks": {"a": {"definition": DEFINITION, "servers": given("none")}}}, "task a: .*a has no ID"),
        ("Workflow", {"tasks": {"a": {**HERE, "timeout": given("map")}}}, "task a: .*timeout: .*'dict'"),
        ("Workflow", {"tasks": {"a": {**HERE, "requires": given("list")}}}, "task a requires s1, which is no task"),
        ("Workflow", {"tasks": {"a": {**HERE, "input_values": {"x": {"get_output": given("map")}}}}}, "two names"),
        ("Workflow", {"tasks": {"a": given("list")}}, "task a is no map"),
        ("Workflow", {"tasks": given("map")}, "task a is no map"),
        ("Workflow", {"tasks": given("list")}, "is not a map"),
    ],
)
def test_what_is_known_to_be_wrong_is_refused_in_words(kind: str, own: dict[str, Any], words: str) -> None:
    (line,) = problems({"wrong": {"type": f"OS::HeatWorkflow::{kind}", "properties": own}}, {}, GIVEN)
    assert line.startswith("resource wrong: ")
    assert re.search(words, line), line


@pytest.mark.parametrize("chosen", [True, False])
def test_what_a_condition_leaves_out_is_not_given(chosen: bool) -> None:
    config = {"type": "OS::Heat::SoftwareConfig", "properties": {"group": "script", "config": "true"}}
    either = {
        "config": {"if": [chosen, {"get_resource": "config"}, None]},
        "definition": {"if": [chosen, None, DEFINITION]},
        "server": "s",
    }
    resources = {
        "config": config,
        "task": {"type": "OS::HeatWorkflow::Task", "properties": either},
        "flow": {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": {"a": either}}},
    }
    assert problems(resources, {}) == []


@pytest.mark.parametrize(
    ("user_data_format", "refused"),
    [("RAW", True), ("SOFTWARE_CONFIG", False), ({"get_attr": ["value", "value"]}, False)],
)
def test_a_server_that_may_boot_with_an_agent_is_good_for_a_task(user_data_format: Any, refused: bool) -> None:
    server = {**BASES["Server"], "user_data_format": user_data_format, "user_data": {"get_attr": ["value", "value"]}}
    resources = {
        "server": {"type": "OS::HeatWorkflow::Server", "properties": server},
        "task": {"type": "OS::HeatWorkflow::Task", "properties": {**HERE, "server": {"get_resource": "server"}}},
    }
    assert [line for line in problems(resources, {}) if "has no agent" not in line] == []
    assert bool(problems(resources, {})) is refused
