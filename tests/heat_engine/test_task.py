# SPDX-License-Identifier: Apache-2.0
"""OS::HeatWorkflow::Task in a real Heat: what runs, what it is told, what comes back, how failure reads."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client, stack_workflow_id
from heat_workflow.shapes import Task


def test_every_attribute_of_a_finished_task(hot: Any, stacks: Stacks) -> None:
    say = hot.script("echo out; echo err >&2; printf 42 > $heat_outputs_path.answer", "answer", "nothing")
    names = ["answer", "nothing", "deploy_stdout", "deploy_stderr", "deploy_status_code", "outputs"]
    outputs: dict[str, Any] = {name: {"get_attr": ["say", name]} for name in names}
    outputs["picked"] = {"get_attr": ["say", "outputs", "answer"]}
    stack = stacks.create("attributes", hot.template(outputs, say=hot.task(say)))
    assert stack.outputs == {
        "answer": "42",
        "nothing": None,
        "deploy_stdout": "out\n",
        "deploy_stderr": "err\n",
        "deploy_status_code": 0,
        "outputs": {"answer": "42"},
        "picked": "42",
    }


def test_an_output_of_the_name_of_an_attribute_wins(hot: Any, stacks: Stacks) -> None:
    say = hot.script("printf mine > $heat_outputs_path.task_id", "task_id")
    stack = stacks.create("wins", hot.template({"got": {"get_attr": ["say", "task_id"]}}, say=hot.task(say)))
    assert stack.outputs == {"got": "mine"}


@pytest.mark.parametrize("inline", [True, False])
def test_an_undeclared_output_is_refused_before_anything_is_created(hot: Any, stacks: Stacks, inline: bool) -> None:
    text = hot.config("true", "sense")
    say = hot.task(text["properties"] if inline else "text")
    use = hot.task(hot.script("true"), input_values={"x": {"get_attr": ["say", "nonsense"]}})
    with pytest.raises(Exception, match="task say: there is no output nonsense: its config declares sense"):
        stacks.create("undeclared", hot.template(text=text, say=say, use=use))


def test_inputs_reach_the_script_with_what_heat_derives(
    hot: Any, stacks: Stacks, tasks_of: Callable[[Stack], list[Task]]
) -> None:
    names = ["declared", "undeclared", "deploy_action", "deploy_resource_name", "deploy_stack_id", "deploy_server_id"]
    names += ["deploy_signal_transport"]
    show = hot.script("\n".join(f'printf %s "${name}" > $heat_outputs_path.{name}' for name in names), *names)
    show["inputs"] = [{"name": "declared", "default": "by default"}]
    stack = stacks.create(
        "inputs",
        hot.template(
            {"outputs": {"get_attr": ["show", "outputs"]}, "machine": {"get_resource": "machine"}},
            show=hot.task(show, input_values={"undeclared": 7}),
        ),
    )
    (added,) = tasks_of(stack)
    assert stack.outputs["outputs"] == {
        "declared": "by default",
        "undeclared": "7",
        "deploy_action": "CREATE",
        "deploy_resource_name": "show",
        "deploy_stack_id": f"{stack.name}/{stack.id}",
        "deploy_server_id": stack.outputs["machine"],
        "deploy_signal_transport": "CFN_SIGNAL",
    }
    declared = {str(io["name"]): io.get("type") for io in added["definition"]["inputs"]}
    assert declared["undeclared"] == "String"
    assert not {name for name in added["input_values"] if name.startswith("deploy_")} - set(names), "nothing secret"


def test_the_task_is_known_by_path_resource_and_workflow(hot: Any, stacks: Stacks, api: Client) -> None:
    stack = stacks.create(
        "known", hot.template({"id": {"get_attr": ["say", "task_id"]}}, say=hot.task(hot.script("true")))
    )
    workflow_id = stack_workflow_id(stack.id)
    added = api.get_task(workflow_id, stack.outputs["id"])
    assert api.get_workflow(workflow_id)["name"] == stack.name
    assert (added["name"], added["action"], added["state"]) == ("say", "CREATE", "succeeded")
    assert added["heat"]["stack_id"] == stack.id
    assert added["server"] == stack.resource("machine").physical_resource_id
    assert stack.resource("say").physical_resource_id != added["id"], "the resource's id is Heat's, not a run's"
    assert added["deadline"] == pytest.approx(3600 - 60, abs=60)


def test_a_failed_script_fails_the_stack_and_says_which_where_why(hot: Any, stacks: Stacks) -> None:
    failing = hot.script("echo fine; echo first >&2; echo the disk is full >&2; exit 3")
    stack = stacks.create("fails", hot.template(failing=hot.task(failing)), wait=False)
    with pytest.raises(DevCloudError):
        stack.wait()
    server = stack.resource("machine").physical_resource_id
    expected = f"task failing on server machine ({server}) failed with exit code 3: the disk is full"
    assert stack.status == "CREATE_FAILED"
    assert expected in stack.reason
    assert expected in stack.resource("failing").resource_status_reason


def test_a_config_id_that_names_nothing_is_refused_before_anything_is_created(hot: Any, stacks: Stacks) -> None:
    wrong = {
        "type": "OS::HeatWorkflow::Task",
        "properties": {"config": "no-such-config", "server": {"get_resource": "machine"}},
    }
    with pytest.raises(Exception, match="task wrong: there is no software config with id no-such-config"):
        stacks.create("wrong", hot.template(wrong=wrong))


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"server": "s", "config": "c", "definition": {"config": "x"}}, "give 'config' or 'definition', not both"),
        ({"definition": {"config": "x"}}, "say where it runs"),
        ({"server": "s", "definition": {"group": "../sh", "config": ""}}, "is no group name"),
        ({"server": "s", "definition": {"config": "x"}, "actions": ["Destroy"]}, "Destroy"),
    ],
)
def test_what_could_never_run_is_refused_in_words(
    hot: Any, stacks: Stacks, properties: dict[str, Any], words: str
) -> None:
    with pytest.raises(Exception, match=words):
        stacks.create("never", hot.template(never={"type": "OS::HeatWorkflow::Task", "properties": properties}))


@pytest.mark.parametrize(
    ("kind", "value"), [("Number", "many"), ("Boolean", "maybe"), ("CommaDelimitedList", 7), ("Json", "{")]
)
def test_a_value_of_the_wrong_type_is_refused_before_anything_is_created(
    hot: Any, stacks: Stacks, kind: str, value: Any
) -> None:
    say = hot.task(hot.script("true", x=kind), input_values={"x": value})
    with pytest.raises(Exception, match=f"task say: input x is declared as {kind}: .* is none"):
        stacks.create("mistyped", hot.template(say=say))


def test_a_strict_config_is_given_nothing_that_it_does_not_declare(hot: Any, stacks: Stacks) -> None:
    config = {"group": "json-file", "config": {"a": {"get_input": "x"}}, "inputs": [{"name": "x"}]}
    say = hot.task(config, input_values={"x": "1", "y": "2"}, input_values_validate="STRICT")
    say["type"] = "OS::HeatWorkflow::StructuredTask"
    with pytest.raises(Exception, match="a value is given for input y, which the config does not declare"):
        stacks.create("strict", hot.template(say=say))


def test_a_component_picks_its_config_by_the_action(hot: Any, stacks: Stacks) -> None:
    component = {
        "type": "OS::Heat::SoftwareComponent",
        "properties": {
            "configs": [
                {"actions": ["CREATE"], "tool": "script", "config": "#!/bin/sh\nprintf made > $heat_outputs_path.how"},
                {"actions": ["UPDATE"], "tool": "script", "config": "#!/bin/sh\nprintf again > $heat_outputs_path.how"},
            ],
            "inputs": [{"name": "version"}],
            "outputs": [{"name": "how"}],
        },
    }
    run = {
        "type": "OS::HeatWorkflow::Task",
        "properties": {
            "config": {"get_resource": "component"},
            "server": {"get_resource": "machine"},
            "input_values": {"version": {"get_param": "version"}},
        },
    }
    source = hot.template({"how": {"get_attr": ["run", "how"]}}, component=component, run=run)
    source["parameters"] = {"version": {"type": "string", "default": "1"}}
    stack = stacks.create("component", source)
    assert stack.outputs == {"how": "made"}
    stack.update(source, parameters={"version": "2"})
    assert stack.outputs == {"how": "again"}


def test_no_signal_does_not_wait(hot: Any, stacks: Stacks, tasks_of: Callable[[Stack], list[Task]]) -> None:
    unheard = hot.task(hot.script("true"), server="nobody-is-there", signal_transport="NO_SIGNAL")
    stack = stacks.create("told", hot.template({"out": {"get_attr": ["unheard", "deploy_stdout"]}}, unheard=unheard))
    assert [added["state"] for added in tasks_of(stack)] == ["ready"]
    assert stack.outputs == {"out": None}


def test_what_has_nothing_to_run_is_recorded_and_says_so(
    hot: Any, stacks: Stacks, tasks_of: Callable[[Stack], list[Task]]
) -> None:
    here = {"server": {"get_resource": "machine"}}
    empty = {"type": "OS::HeatWorkflow::Task", "properties": here}
    many = {"type": "OS::HeatWorkflow::TaskGroup", "properties": {"servers": {"m": {"get_resource": "machine"}}}}
    tasks = {"step": {**here, "definition": {"config": "a note"}}}
    flow = {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks}}
    stack = stacks.create("noted", hot.template(note=hot.task({"config": "a note"}), empty=empty, many=many, flow=flow))
    assert [added["definition"]["group"] for added in tasks_of(stack)] == ["Heat::Ungrouped"] * 3
    events = [str(event.resource_status_reason) for event in stack.events()]
    no_hook = "nothing to run: the group of its config is Heat::Ungrouped; give that of a hook, such as script"
    nothing = "nothing to run: it has neither 'config' nor 'definition', or an empty one"
    assert sorted(told for told in events if "nothing to run" in told) == [
        f"task empty: {nothing}",
        f"task many: {nothing}",
        f"task note: {no_hook}",
        f"task step: {no_hook}",
    ]


def test_a_task_that_nobody_picks_up_says_so(hot: Any, stacks: Stacks) -> None:
    alone = hot.task(hot.script("true"), server="nobody-is-there", pickup_timeout=1)
    with pytest.raises(DevCloudError, match="task alone on server nobody-is-there timed out: no agent picked it up"):
        stacks.create("alone", hot.template(alone=alone))


def test_any_agent_with_the_capability_may_run_it(hot: Any, stacks: Stacks) -> None:
    builder = {"type": "OS::HeatWorkflow::DeployedServer", "properties": {"capabilities": ["builds"]}}
    anywhere = hot.task(hot.script("printf done > $heat_outputs_path.result", "result"), capabilities=["builds"])
    del anywhere["properties"]["server"]
    anywhere["depends_on"] = "builder"
    outputs = {"result": {"get_attr": ["anywhere", "result"]}}
    stack = stacks.create("anywhere", hot.template(outputs, builder=builder, anywhere=anywhere))
    assert stack.outputs == {"result": "done"}


def test_a_hidden_output_that_is_read_is_refused_unless_exposed(hot: Any, stacks: Stacks) -> None:
    secret = hot.script("printf s3cret > $heat_outputs_path.password", "password")
    read = {"get_attr": ["secret", "password"]}
    hidden, use = hot.task(secret, hidden_outputs=["password"]), hot.task(hot.script("true"), input_values={"p": read})
    refusal = "task secret: output password is hidden, and resource use reads it by get_attr; set expose_hidden"
    with pytest.raises(Exception, match=refusal):
        stacks.create("hidden", hot.template(secret=hidden, use=use))
    stack = stacks.create("hidden", hot.template({"all": {"get_attr": ["secret", "outputs"]}}, secret=hidden))
    assert stack.outputs == {"all": {}}
    with pytest.raises(Exception, match="output password is hidden, and output password of the stack reads it"):
        stack.update(hot.template({"password": read}, secret=hidden))
    shown = hot.task(secret, hidden_outputs=["password"], expose_hidden=True)
    stack.update(hot.template({"password": read}, secret=shown))
    assert stack.outputs == {"password": "s3cret"}


def test_tasks_of_nested_stacks_share_the_roots_workflow(
    hot: Any, stacks: Stacks, tasks_of: Callable[[Stack], list[Task]], tmp_path: pathlib.Path
) -> None:
    inner = hot.task(hot.script("printf deep > $heat_outputs_path.said", "said"))
    inner["properties"]["server"] = {"get_param": "server"}
    nested = hot.template({"said": {"get_attr": ["inner", "said"]}}, inner=inner)
    nested["parameters"] = {"server": {"type": "string"}}
    del nested["resources"]["machine"]
    one = {"type": "nested.yaml", "properties": {"server": {"get_resource": "machine"}}}
    group = {"type": "OS::Heat::ResourceGroup", "properties": {"count": 1, "resource_def": one}}
    (tmp_path / "nested.yaml").write_text(json.dumps(nested))
    (tmp_path / "root.yaml").write_text(json.dumps(hot.template({"said": {"get_attr": ["web", "said"]}}, web=group)))
    stack = stacks.create("nest", tmp_path / "root.yaml")
    assert stack.outputs == {"said": ["deep"]}
    (added,) = tasks_of(stack)
    assert added["name"] == "web/0/inner"
