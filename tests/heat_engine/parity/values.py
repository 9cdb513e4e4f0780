# SPDX-License-Identifier: Apache-2.0
"""Rows about values: inputs of every type, outputs of every type, signals and what the guest is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.heat_engine.parity.rows import Facts, Room, row


def shown(room: Room, inputs: list[dict[str, Any]], also: tuple[str, ...] = ()) -> dict[str, Any]:
    """A definition that gives back each of its inputs, as its script sees it."""
    names = [*(str(each["name"]) for each in inputs), *also]
    lines = "\n".join(f'printf %s "${name}" > $heat_outputs_path.{name}' for name in names)
    return {**room.hot.script(lines, *names), "inputs": inputs}


TELLS = ("deploy_server_id", "deploy_action", "deploy_stack_id", "deploy_resource_name", "deploy_signal_transport")
SECRETS = ("deploy_signal_id", "deploy_password", "deploy_user_id", "deploy_queue_id", "deploy_auth_url")


def inputs(room: Room) -> Facts:
    """Inputs of every kind, and what Heat derives, in one task each."""
    declared: list[dict[str, Any]] = [
        {"name": "text", "type": "String", "description": "words"},
        {"name": "number", "type": "Number"},
        {"name": "flag", "type": "Boolean"},
        {"name": "list", "type": "CommaDelimitedList"},
        {"name": "map", "type": "Json"},
        {"name": "given", "default": "by default"},
        {"name": "legacy", "default": ""},
    ]
    values = {"text": 5, "number": 42, "flag": True, "list": ["a", "b"], "map": {"k": [1]}, "unknown": 7}
    kinds = ("CFN_SIGNAL", "TEMP_URL_SIGNAL", "HEAT_SIGNAL", "ZAQAR_SIGNAL")
    told = {f"by_{kind.lower()}": room.hot.task(shown(room, [], TELLS), signal_transport=kind) for kind in kinds}
    stack = room.stacks.create(
        "inputs",
        room.hot.template(
            {name: {"get_attr": [name, "outputs"]} for name in ("say", *told)},
            say=room.hot.task(shown(room, declared, ("unknown",)), input_values=values),
            quiet=room.hot.task(room.hot.script("true"), server="nobody-is-there", signal_transport="NO_SIGNAL"),
            **told,
        ),
    )
    return {"stack": stack, "outputs": stack.outputs, "tasks": {task["name"]: task for task in room.tasks_of(stack)}}


@row(
    "values",
    "Input types String, Number, Boolean, CommaDelimitedList, Json",
    "in the environment of a script, maps and lists as JSON; its hook crashes on a number, a boolean and null",
    "numbers, booleans (true, false) and null work",
)
def inputs_of_every_type_reach_the_script(room: Room) -> None:
    said = room.facts_of(inputs)["outputs"]["say"]
    assert {name: said[name] for name in ("text", "number", "flag", "map")} == {
        "text": "5",
        "number": "42",
        "flag": "true",
        "map": '{"k": [1]}',
    }
    assert said["list"] in ("a,b", '["a", "b"]')


@row("values", "A value of another type than its input's", "passed on", "refused before anything is created")
def a_value_of_the_wrong_type_is_refused(room: Room) -> None:
    say = room.hot.task(room.hot.script("true", x="Number"), input_values={"x": "many"})
    with pytest.raises(Exception, match="input x is declared as Number: 'many' is none"):
        room.stacks.create("mistyped", room.hot.template(say=say))


def structured(room: Room) -> Facts:
    """A structured config with its inputs written in, by the key of the author's choice."""
    hook = room.cloud.directory / "hooks" / "echo-json"
    hook.parent.mkdir(mode=0o755, exist_ok=True)
    hook.write_text(
        "#!/usr/bin/python3\nimport json, sys\nconfig = json.load(sys.stdin)['config']\n"
        "json.dump({'said': json.dumps(config), 'deploy_status_code': 0}, sys.stdout)\n"
    )
    hook.chmod(0o755)
    config = {"a": {"ask": "x"}, "b": [{"ask": "y"}], "c": {"ask": "x", "more": 1}}
    definition = {"group": "echo-json", "config": config, "inputs": [{"name": "x"}], "outputs": [{"name": "said"}]}
    task = room.hot.task(definition, input_key="ask", input_values={"x": "1"})
    task["type"] = "OS::HeatWorkflow::StructuredTask"
    stack = room.stacks.create("written", room.hot.template({"said": {"get_attr": ["say", "said"]}}, say=task))
    return {"said": json.loads(stack.outputs["said"])}


@row(
    "values",
    "OS::Heat::StructuredDeployment: input_key",
    "replaces a map of exactly that key and a name; with LAX null where there is no value",
)
def inputs_are_written_into_a_structured_config(room: Room) -> None:
    assert room.facts_of(structured)["said"] == {"a": "1", "b": [None], "c": {"ask": "x", "more": 1}}


@row(
    "values",
    "OS::Heat::StructuredDeployment: input_values_validate STRICT",
    "a missing value fails the deployment when it runs",
    "refused before anything is created, as is a value for an input that the config neither declares nor asks for",
)
def strict_refuses_what_is_missing(room: Room) -> None:
    definition = {"group": "echo-json", "config": {"a": {"get_input": "x"}}}
    task = room.hot.task(definition, input_values_validate="STRICT")
    task["type"] = "OS::HeatWorkflow::StructuredTask"
    with pytest.raises(Exception, match="asks for input x"):
        room.stacks.create("strict", room.hot.template(say=task))


@row("values", "default of an input", "used where no value is given; the legacy empty default too")
def a_default_is_used(room: Room) -> None:
    said = room.facts_of(inputs)["outputs"]["say"]
    assert (said["given"], said["legacy"]) == ("by default", "")


@row("values", "A value for an input that is not declared", "becomes a String input")
def an_undeclared_value_becomes_a_string_input(room: Room) -> None:
    facts = room.facts_of(inputs)
    assert facts["outputs"]["say"]["unknown"] == "7"
    declared = {io["name"]: io.get("type") for io in facts["tasks"]["say"]["definition"]["inputs"]}
    assert declared["unknown"] == "String"


@row("values", "description of inputs and outputs", "accepted")
def descriptions_are_kept(room: Room) -> None:
    declared = {io["name"]: io for io in room.facts_of(inputs)["tasks"]["say"]["definition"]["inputs"]}
    assert declared["text"]["description"] == "words"


@row(
    "values",
    "Types of outputs",
    "accepted, not enforced: stored as received",
    "enforced: text becomes a number, a list, a boolean or JSON",
)
def outputs_have_their_declared_types(room: Room) -> None:
    wanted = {"n": ("Number", "42"), "b": ("Boolean", "true"), "l": ("CommaDelimitedList", "a,b"), "j": ("Json", "[1]")}
    lines = "\n".join(f"printf %s '{text}' > $heat_outputs_path.{name}" for name, (_, text) in wanted.items())
    definition = {**room.hot.script(lines), "outputs": [{"name": n, "type": kind} for n, (kind, _) in wanted.items()]}
    stack = room.stacks.create(
        "typed", room.hot.template({"all": {"get_attr": ["say", "outputs"]}}, say=room.hot.task(definition))
    )
    assert stack.outputs["all"] == {"n": 42, "b": True, "l": ["a", "b"], "j": [1]}


def failures(room: Room) -> Facts:
    """Tasks that fail, each in its own way, side by side."""
    mute = room.cloud.directory / "hooks" / "mute"
    mute.parent.mkdir(mode=0o755, exist_ok=True)
    mute.write_text('#!/bin/sh\nprintf \'{"said": "nothing of a status"}\'\nexit 3\n')
    mute.chmod(0o755)
    wrong = {**room.hot.script("printf many > $heat_outputs_path.n"), "outputs": [{"name": "n", "type": "Number"}]}
    error = room.hot.script("printf 'no disk' > $heat_outputs_path.why")
    error["outputs"] = [{"name": "why", "error_output": True}]
    tasks = {
        "code": room.hot.script("echo first >&2; echo last >&2; exit 4"),
        "error": error,
        "wrong": wrong,
        "mute": {"group": "mute", "config": "", "outputs": [{"name": "said"}]},
        "nohook": {"group": "no-such-tool", "config": ""},
        "metadata": {"group": "os-apply-config", "config": {"key": "value"}},
        "large": room.hot.script("echo ${#big}"),
    }
    values = {"input_values": {"big": "x" * 200_000}}
    source = room.hot.template(
        **{name: room.hot.task(what, **(values if name == "large" else {})) for name, what in tasks.items()}
    )
    stack = room.stacks.create("failures", source, wait=False)
    stack.wait_until(lambda: all(stack.resource(name).resource_status == "CREATE_FAILED" for name in tasks))
    return {name: stack.resource(name).resource_status_reason for name in tasks}


@row("values", "error_output", "a value for it fails the deployment and becomes the reason")
def a_value_for_an_error_output_fails_the_task(room: Room) -> None:
    assert "why : no disk" in room.facts_of(failures)["error"]


@row(
    "values",
    "An input too large for the environment",
    "the hook cannot start the script: Argument list too long",
    "fails the task and is named, if the script reads it as a variable; else the script takes it from the file",
)
def an_input_too_large_for_the_environment_fails_the_task(room: Room) -> None:
    assert "input big is too large for the environment" in room.facts_of(failures)["large"]


@row(
    "ending",
    "Group os-apply-config",
    "metadata for os-apply-config in the guest; no hook",
    "fails, and says what to write instead",
)
def metadata_for_os_apply_config_fails_the_task(room: Room) -> None:
    assert "metadata for os-collect-config" in room.facts_of(failures)["metadata"]


@row("values", "An output of the wrong type", "stored as received", "fails the task, and the reason names the output")
def an_output_of_the_wrong_type_fails_the_task(room: Room) -> None:
    assert "output n is declared as Number: 'many' is none" in room.facts_of(failures)["wrong"]


@row(
    "ending",
    "A status code other than 0",
    "fails the deployment",
    "the reason names task, server and code, and the line that says why: of stderr the last lines, else of stdout",
)
def a_status_code_fails_the_task(room: Room) -> None:
    assert "failed with exit code 4: last (after: first)" in room.facts_of(failures)["code"]


@row("ending", "No status code in the signal", "counts as success", "the hook's exit status counts")
def a_missing_status_code_is_no_success(room: Room) -> None:
    assert "exit status 3" in room.facts_of(failures)["mute"] or "exit code 3" in room.facts_of(failures)["mute"]


@row("ending", "No hook for the group", "no signal: IN_PROGRESS until the stack's time is up", "fails, and says so")
def a_missing_hook_fails_the_task(room: Room) -> None:
    assert "no-such-tool" in room.facts_of(failures)["nohook"]


@row("signals", "What is always told", "deploy_server_id, _action, _stack_id, _resource_name, _signal_transport")
def the_guest_is_told_what_heat_derives(room: Room) -> None:
    facts = room.facts_of(inputs)
    stack = facts["stack"]
    assert facts["outputs"]["by_heat_signal"] == {
        "deploy_server_id": stack.resource("machine").physical_resource_id,
        "deploy_action": "CREATE",
        "deploy_stack_id": f"{stack.name}/{stack.id}",
        "deploy_resource_name": "by_heat_signal",
        "deploy_signal_transport": "HEAT_SIGNAL",
    }


@row(
    "signals",
    "CFN_SIGNAL, TEMP_URL_SIGNAL, HEAT_SIGNAL, ZAQAR_SIGNAL",
    "each adds a signed URL, a user with password, or a queue",
    "accepted and all the same: the agent reports to the tasks API, no credential reaches the guest; a script that "
    "signals Heat by itself does not work",
)
def no_transport_brings_a_credential(room: Room) -> None:
    tasks = room.facts_of(inputs)["tasks"]
    for name in ("by_cfn_signal", "by_temp_url_signal", "by_heat_signal", "by_zaqar_signal"):
        assert tasks[name]["state"] == "succeeded"
        assert not set(tasks[name]["input_values"]) & set(SECRETS)


@row("signals", "NO_SIGNAL", "COMPLETE at once", "COMPLETE once the task is recorded; it runs all the same")
def no_signal_is_complete_at_once(room: Room) -> None:
    facts = room.facts_of(inputs)
    assert facts["stack"].resource("quiet").resource_status == "CREATE_COMPLETE"
    assert facts["tasks"]["quiet"]["state"] == "ready"
