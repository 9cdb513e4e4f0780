# SPDX-License-Identifier: Apache-2.0
"""A hidden output that get_attr reads is refused before anything runs, whoever reads it and by whatever name."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from heat_workflow.plan.hot import read_template
from heat_workflow.plan.sources import Sources

DEFINITION = {"group": "script", "config": "true", "outputs": [{"name": "token"}, {"name": "port"}]}
SECRET = {"definition": DEFINITION, "hidden_outputs": ["token"]}


def our(kind: str, **properties: Any) -> dict[str, Any]:
    return {"type": f"OS::HeatWorkflow::{kind}", "properties": properties}


GENERATORS: dict[str, Any] = {
    "task": our("Task", server="s", **SECRET),
    "group": our("TaskGroup", servers={"a": "s"}, **SECRET),
    "flow": our("Workflow", tasks={"gen": {"server": "s", **SECRET}, "all": {"servers": {"a": "s"}, **SECRET}}),
}
HIDDEN: dict[str, Any] = {
    "task": [["token"], ["token", 0], ["outputs", "token"]],
    "group": [["token"], ["tokens"], ["token", "a"], ["tokens", "a"], ["outputs", "a", "token"]],
    "flow": [["outputs", "gen", "token"], ["outputs", "all", "token"], ["outputs", "all", "token", "a"]],
}
OPEN: dict[str, Any] = {
    "task": [["port"], ["outputs"], ["outputs", "port"], ["deploy_stdout"], []],
    "group": [["port"], ["ports"], ["outputs"], ["outputs", "token"], ["outputs", "a", "port"], ["deploy_stdouts"], []],
    "flow": [["outputs"], ["outputs", "gen"], ["outputs", "gen", "port"], ["tasks"], []],
}


def reading(value: Any) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By the words for the reader, the resource or the output that reads the value."""
    inputs = {"input_values": {"x": value}, "definition": DEFINITION}
    tasks = {"one": {"server": "s", **inputs}}
    resources = {
        "use": our("Task", server="s", **inputs),
        "many": our("TaskGroup", servers={"a": "s"}, **inputs),
        "steps": our("Workflow", tasks=tasks),
        "kept": {"type": "OS::Heat::Value", "properties": {"value": {"list_join": ["-", ["a", value]]}}},
        "nested": {"type": "file:///node.yaml", "properties": {"p": value}},
        "known": {"type": "OS::Heat::Value", "properties": {"value": 1}, "metadata": {"x": [value]}},
    }
    found: dict[str, Any] = {f"resource {name}": ({name: resource}, {}) for name, resource in resources.items()}
    return {**found, "output o of the stack": ({}, {"o": {"value": {"map_merge": [{"x": value}]}}})}


def problems(resources: dict[str, Any], outputs: dict[str, Any]) -> list[str]:
    template = {"heat_template_version": "2021-04-16", "resources": resources, "outputs": outputs}
    node = {"heat_template_version": "2021-04-16", "parameters": {"p": {"type": "string"}}, "resources": {}}
    return list(read_template(Sources(template, {}, {"file:///node.yaml": json.dumps(node)})).problems)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_hidden_output_is_refused_to_every_reader_by_every_name(kind: str) -> None:
    for path in HIDDEN[kind]:
        for reader, (resources, outputs) in reading({"get_attr": [kind, *path]}).items():
            (line,) = problems({kind: GENERATORS[kind], **resources}, outputs)
            assert re.search(f"output token is hidden, and {reader} reads it by get_attr; ", line), (path, line)


@pytest.mark.parametrize("kind", GENERATORS)
def test_what_is_not_hidden_is_read_as_before(kind: str) -> None:
    for path in OPEN[kind]:
        for resources, outputs in reading({"get_attr": [kind, *path]}).values():
            assert problems({kind: GENERATORS[kind], **resources}, outputs) == [], path


MISTYPED: dict[str, Any] = {
    "task": [["prot"], ["outputs", "prot"], ["outputs", "deploy_stdout"]],
    "group": [["prot"], ["prots"], ["outputs", "a", "prot"]],
    "flow": [["outputs", "gne"], ["outputs", "gen", "prot"], ["outputs", "all", "prot", "a"], ["tasks", "gne"]],
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_an_output_that_there_is_not_is_refused_by_every_name(kind: str) -> None:
    for path in MISTYPED[kind]:
        for resources, outputs in reading({"get_attr": [kind, *path]}).values():
            lines = problems({kind: GENERATORS[kind], **resources}, outputs)
            assert len(lines) == 1, (path, lines)
            assert re.search("no output|no task|whose config declares port, token|Attribute .* is incorrect", lines[0])


@pytest.mark.parametrize("exposed", [True, {"if": [True, True, False]}, {"get_attr": ["yes", "value"]}])
def test_what_is_exposed_or_may_be_is_not_refused(exposed: Any) -> None:
    yes = {"type": "OS::Heat::Value", "properties": {"type": "boolean", "value": True}}
    for kind in ("task", "group"):
        own = {**GENERATORS[kind]["properties"], "expose_hidden": exposed}
        outputs = {"o": {"value": {"get_attr": [kind, "token"]}}}
        assert problems({"yes": yes, kind: {**GENERATORS[kind], "properties": own}}, outputs) == []


def test_names_that_are_not_known_yet_are_not_refused() -> None:
    late = {"type": "OS::Heat::Value", "properties": {"type": "comma_delimited_list", "value": ["token"]}}
    own = {**GENERATORS["task"]["properties"], "hidden_outputs": {"get_attr": ["late", "value"]}}
    task = {**GENERATORS["task"], "properties": own}
    assert problems({"late": late, "task": task}, {"o": {"value": {"get_attr": ["task", "token"]}}}) == []


@pytest.mark.parametrize(("kind", "place"), [("Task", {"server": "s"}), ("TaskGroup", {"servers": {"a": "s"}})])
def test_a_task_is_told_to_use_get_attr_where_get_output_finds_nothing(kind: str, place: dict[str, Any]) -> None:
    use = our(kind, **place, definition=DEFINITION, input_values={"x": {"get_output": ["db", "port"]}})
    database = our("Task", server="s", definition=DEFINITION)
    (line,) = problems({"db": database, "use": use}, {})
    assert line.endswith("inside one Workflow, and db is none; use get_attr: [db, port]")
    in_order = {"db": database, "use": {**use, "depends_on": "db"}}
    assert problems(in_order, {}) == [], "db is a task of the same workflow in the tasks API, and there by then"


def test_a_value_of_the_wrong_type_is_refused_in_a_workflow_too() -> None:
    wanted = {**DEFINITION, "inputs": [{"name": "n", "type": "Number"}]}
    task = {"server": "s", "definition": wanted, "input_values": {"n": "many"}}
    shared = our("Workflow", tasks={"a": {"server": "s", "definition": wanted}}, input_values={"n": "many"})
    for flow in (our("Workflow", tasks={"a": task}), shared):
        (line,) = problems({"flow": flow}, {})
        assert line.endswith("task a: input n is declared as Number: 'many' is none")
    placeholder = {**task, "input_values": {"n": {"get_output": ["b", "port"]}}}
    good = our("Workflow", tasks={"a": placeholder, "b": {"server": "s", "definition": DEFINITION}})
    assert problems({"flow": good}, {}) == []


def test_the_value_of_a_hidden_input_is_not_told_in_a_refusal() -> None:
    wanted = {**DEFINITION, "inputs": [{"name": "n", "type": "Number"}]}
    task = {"server": "s", "definition": wanted, "input_values": {"n": "s3cret"}, "hidden_inputs": ["n"]}
    for one in (our("Task", **task), our("Workflow", tasks={"a": task})):
        (line,) = problems({"one": one}, {})
        assert line.endswith("input n is declared as Number: its value is none")
