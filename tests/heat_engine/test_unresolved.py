# SPDX-License-Identifier: Apache-2.0
"""Properties that come from functions in a real Heat: known only when other resources are there, right or wrong."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

from heatclient.common import template_utils

from devcloud.stacks import Stack, Stacks
from heat_workflow.shapes import Task

Tasks = Callable[[Stack], list[Task]]
SAY = {"group": "script", "config": "printf hi > $heat_outputs_path.said", "outputs": [{"name": "said"}]}
NODE = {
    "heat_template_version": "2021-04-16",
    "resources": {"server": {"type": "OS::HeatWorkflow::DeployedServer"}},
    "outputs": {"id": {"value": {"get_resource": "server"}}, "nothing": {"value": None}},
}


def value(kind: str, what: Any) -> dict[str, Any]:
    return {"type": "OS::Heat::Value", "properties": {"type": kind, "value": what}}


def of(name: str, *path: Any) -> dict[str, Any]:
    return {"get_attr": [name, *(path or ("value",))]}


def flow(tasks: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks, **properties}}


def task(**properties: Any) -> dict[str, Any]:
    return {"type": "OS::HeatWorkflow::Task", "properties": {"definition": SAY, **properties}}


def group(servers: Any, **properties: Any) -> dict[str, Any]:
    own = {"definition": SAY, "servers": servers, **properties}
    return {"type": "OS::HeatWorkflow::TaskGroup", "properties": own}


VALUES = {
    "machines": {
        "type": "OS::Heat::ResourceGroup",
        "properties": {"count": 2, "resource_def": {"type": "OS::HeatWorkflow::DeployedServer"}},
    },
    "node": {"type": "node.yaml"},
    "two": value("number", 2),
    "yes": value("boolean", True),
    "first": value("string", "first"),
    "names": value("comma_delimited_list", ["first"]),
    "say": value("json", SAY),
    "server": value("string", of("node", "id")),
    "whole": value("json", {"only": {"definition": SAY, "server": of("node", "id")}}),
    "one": value("json", {"definition": SAY, "server": of("node", "id")}),
}


def template(directory: pathlib.Path, outputs: dict[str, Any], **resources: Any) -> pathlib.Path:
    (directory / "node.yaml").write_text(json.dumps(NODE))
    source = {
        "heat_template_version": "2021-04-16",
        "parameters": {"size": {"type": "number", "default": 1}, "word": {"type": "string", "default": "hello"}},
        "conditions": {"always": True},
        "resources": {**VALUES, **resources},
        "outputs": {name: {"value": what} for name, what in outputs.items()},
    }
    (directory / "stack.yaml").write_text(json.dumps(source))
    return directory / "stack.yaml"


def test_every_kind_of_value_is_used_when_it_is_known(stacks: Stacks, tasks_of: Tasks, tmp_path: pathlib.Path) -> None:
    rolling = {"batch_create": {"max_batch_size": {"get_param": "size"}}}
    tasks = {
        "first": {"definition": of("say"), "server": of("machines", "resource.0"), "timeout": of("two")},
        "number": {
            "definition": {**SAY, "inputs": [{"name": of("first")}]},
            "servers": of("machines", "refs_map"),
            "requires": of("names"),
            "max_attempts": of("two"),
            "priority": of("two"),
            "batch": {"max_size": of("two")},
        },
        "text": {
            "definition": {**SAY, "config": {"str_replace": {"template": SAY["config"], "params": {"hi": of("two")}}}},
            "server": {"list_join": ["", [of("server")]]},
            "requires": [of("first")],
            "input_values": {"x": {"get_output": [of("first"), "said"]}},
        },
        "map": of("one"),
    }
    source = template(
        tmp_path,
        {
            "nested": of("by_nested", "said"),
            "chosen": of("chosen", "said"),
            "group": of("everywhere", "said"),
            "flow": of("flow", "outputs"),
            "whole": of("given", "outputs"),
        },
        by_nested=task(server=of("node", "id"), timeout=of("two"), expose_hidden=of("yes"), input_values=of("one")),
        by_member=task(server=of("machines", "refs", 1), actions=[{"list_join": ["", ["CREATE"]]}]),
        chosen=task(server={"if": ["always", of("machines", "resource.0"), "nobody"]}, definition=of("say")),
        everywhere={**group(of("machines", "refs_map"), retry_delay=of("two")), "update_policy": rolling},
        flow=flow(tasks, sealed=of("yes"), timeout={"list_join": ["", ["3", "0"]]}),
        given=flow(of("whole")),
    )
    files, content = template_utils.get_template_contents(template_file=str(source))
    body = {"template": content, "files": files}
    assert "Parameters" in stacks.heat.stacks.validate(**body)
    assert stacks.heat.stacks.preview(stack_name="late", **body).resources
    stack = stacks.create("late", source)
    both = {"0": "hi", "1": "hi"}
    assert stack.outputs == {
        "nested": "hi",
        "chosen": "hi",
        "group": both,
        "flow": {
            "first": {"said": "hi"},
            "number": {"said": both},
            "text": {"said": "2"},
            "map": {"said": "hi"},
        },
        "whole": {"only": {"said": "hi"}},
    }
    (timed,) = [each for each in tasks_of(stack) if each["name"] == "by_nested"]
    assert timed["timeout"] == 2
    before = len(tasks_of(stack))
    stack.update(source)
    assert len(tasks_of(stack)) == before, "nothing has changed"


def is_at_rest(stack: Stack) -> bool:
    """Whether nothing goes on: Heat calls a stack failed while other resources are still at it."""
    states = [stack.status, *(each.resource_status for each in stack.resources())]
    return not any(state.endswith("IN_PROGRESS") for state in states)


WRONG = {
    "list_of_servers": (group(of("machines", "refs")), "servers is a map of names to IDs; use refs_map"),
    "nowhere": (task(server=of("node", "nothing")), "it is not said where it runs"),
    "actions": (task(server="s", actions=[of("first")]), "first.*is not an allowed value"),
    "flow_list": (flow({"a": {"definition": SAY, "servers": of("machines", "refs")}}), "task a: .*use refs_map"),
    "flow_number": (
        flow({"a": {"definition": SAY, "server": "s", "timeout": of("first")}}),
        "task a: .*timeout: .*first",
    ),
    "flow_edge": (flow({"a": {"definition": SAY, "server": "s", "requires": of("names")}}), "first, which is no task"),
}


def test_what_comes_out_wrong_fails_in_words_and_can_be_deleted(stacks: Stacks, tmp_path: pathlib.Path) -> None:
    stack = stacks.create("wrong", template(tmp_path, {}))
    for name, (resource, words) in WRONG.items():  # Heat stops at the first that fails: one at a time
        stack.update(template(tmp_path, {}, **{name: resource}), wait=False)
        stack.wait_until(lambda: is_at_rest(stack))
        assert stack.status == "UPDATE_FAILED"
        told = stack.resource(name)
        assert told.resource_status == "CREATE_FAILED", stack.failures()
        assert re.search(words, told.resource_status_reason), told.resource_status_reason
        assert "Traceback" not in told.resource_status_reason
    stack.delete()


def test_an_update_to_what_comes_out_wrong_fails_in_words_and_changes_nothing(
    stacks: Stacks, tasks_of: Tasks, tmp_path: pathlib.Path
) -> None:
    here = {"definition": SAY, "server": of("node", "id")}
    good = {"team": group(of("machines", "refs_map")), "alone": task(**here), "steps": flow({"a": here})}
    bad = {
        "team": (group(of("machines", "refs")), "use refs_map"),
        "alone": (task(**here, timeout=of("first")), "timeout: .*first"),
        "steps": (flow({"a": {**here, "timeout": of("first")}}), "task a: .*timeout: .*first"),
    }
    said = {name: of(name, "outputs") for name in ("team", "steps")}
    stack = stacks.create("turns", template(tmp_path, said, **good))
    before, tasks = stack.outputs, len(tasks_of(stack))
    for name, (resource, words) in bad.items():
        stack.update(template(tmp_path, said, **{**good, name: resource}), wait=False)
        stack.wait_until(lambda: is_at_rest(stack))
        told = stack.resource(name)
        assert told.resource_status == "UPDATE_FAILED"
        assert re.search(words, told.resource_status_reason), told.resource_status_reason
    stack.update(template(tmp_path, said, **good))
    assert (stack.outputs, len(tasks_of(stack))) == (before, tasks)
    stack.delete()
