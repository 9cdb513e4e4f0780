# SPDX-License-Identifier: Apache-2.0
"""The script hook: what command a task becomes; nothing is run here."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from typing import Any

import pytest

from guest_agent.errors import HookError
from guest_agent.hooks import BUILT_IN
from guest_agent.hooks.contract import Command, Exit, Place
from guest_agent.hooks.environment import ONE_LIMIT, is_refused
from guest_agent.task import read_task

Make = Callable[..., dict[str, Any]]
PLACE = Place("/state/run/1")


def _command(wire: dict[str, Any]) -> Command:
    return BUILT_IN["script"].prepare(read_task(wire), PLACE)


def _file(command: Command, name: str) -> str:
    return next(file.text for file in command.files if file.name == name)


def test_inputs_stand_in_the_environment_and_in_the_file(make_wire_task: Make) -> None:
    values = {
        "text": "a 'b' $(id)\n",
        "number": 1.5,
        "flag": True,
        "map": {"k": [1]},
        "nothing": None,
        "deploy_action": "CREATE",
    }
    inputs = [
        {"name": "number", "type": "Number"},
        {"name": "flag", "type": "Boolean"},
        {"name": "map", "type": "Json"},
    ]
    command = _command(make_wire_task("x", input_values=values, inputs=inputs))
    expected = {
        "text": "a 'b' $(id)\n",
        "number": "1.5",
        "flag": "true",
        "map": '{"k": [1]}',
        "nothing": "",
        "deploy_action": "CREATE",
    }
    for name, text in expected.items():
        assert command.env[name] == text
        assert command.env[f"HW_INPUT_{name}"] == text
    assert json.loads(_file(command, "inputs.json")) == values
    assert command.env["HW_INPUTS_FILE"] == "/state/run/1/inputs.json"
    assert command.stdin == "inputs.json"


def test_a_boolean_given_to_a_string_input_reads_as_it_always_did(make_wire_task: Make) -> None:
    assert _command(make_wire_task("x", input_values={"flag": True})).env["flag"] == "True"


def test_the_environment_is_built_from_nothing(make_wire_task: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "1")
    env = _command(make_wire_task("x")).env
    assert "CANARY" not in env
    assert {"PATH", "LANG", "HOME", "heat_outputs_path"} <= set(env)
    assert all(name.startswith("HW_") for name in set(env) - {"PATH", "LANG", "HOME", "heat_outputs_path"})
    assert env["heat_outputs_path"] == "/state/run/1/outputs/o"


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "PATH", "IFS", "ENV", "BASH_ENV", "BASH_FUNC_x%%", "PYTHONPATH", "PERL5LIB", "RUBYOPT"),
        *("GCONV_PATH", "NODE_OPTIONS", "http_proxy", "HTTPS_PROXY", "SSL_CERT_FILE", "GIT_SSH", "HOME", "SHELL"),
        "HW_TASK_ID",
    ],
)
def test_s37_a_name_that_steers_the_hook_is_not_exported(make_wire_task: Make, name: str) -> None:
    assert is_refused(name)
    command = _command(make_wire_task("x", input_values={name: "evil"}))
    assert command.env.get(name) != "evil"
    assert json.loads(_file(command, "inputs.json")) == {name: "evil"}


@pytest.mark.parametrize("name", ["A=B", "A\nB", "my-input", "1st", "ü"])
def test_a_name_that_is_no_variable_name_is_only_in_the_file(make_wire_task: Make, name: str) -> None:
    command = _command(make_wire_task("x", input_values={name: "v"}))
    assert "v" not in command.env.values()
    assert json.loads(_file(command, "inputs.json")) == {name: "v"}


def test_a_hidden_input_is_only_in_the_file(make_wire_task: Make) -> None:
    command = _command(make_wire_task("x", input_values={"password": "canary"}, hidden_inputs=["password"]))
    assert "canary" not in repr(command)
    assert "canary" not in " ".join([*command.argv, *command.env.values()])
    assert json.loads(_file(command, "inputs.json")) == {"password": "canary"}


def test_an_input_too_large_for_the_environment_is_in_the_file_and_told(make_wire_task: Make) -> None:
    command = _command(make_wire_task("jq .big $HW_INPUTS_FILE", input_values={"big": "x" * ONE_LIMIT, "small": "s"}))
    assert "big" not in command.env
    assert command.env["small"] == "s"
    assert command.notes == ("inputs too large for the environment, only in $HW_INPUTS_FILE: big",)


@pytest.mark.parametrize(
    ("values", "config", "words"),
    [
        (
            {"big": "x" * ONE_LIMIT},
            "echo ${#big}",
            r"big is too large .*: it has 131071 bytes, .*; read it from the file",
        ),
        ({"big": "\N{EURO SIGN}" * 50_000}, "echo $big", r"big is too large .*: it has 150000 bytes"),
        ({"big": {"k": ["x" * ONE_LIMIT]}}, "echo $HW_INPUT_big", r"big is too large .*: it has 131082 bytes"),
        (dict.fromkeys("abcdefghij", "x" * 120000), "echo $a $j", None),
        (
            dict.fromkeys("abcdefghij", "x" * 120000),
            "echo $a $b $c $d $e $f $g $h $i $j",
            r"input i is too large .*: it has 120000 bytes, and all together may have 1048576",
        ),
        ({"http_proxy": "p"}, "curl -x $http_proxy", r"http_proxy is not exported .*; write \$HW_INPUT_http_proxy"),
        (
            {"LANG": "de"},
            "echo $LANG",
            r"LANG is not exported as LANG, which the hook has .*; write \$HW_INPUT_LANG",
        ),
        ({"my-input": "v"}, "echo $my-input", r"my-input is not in the environment, because its name is no name"),
    ],
)
def test_an_input_that_the_script_reads_and_would_not_find_is_a_failed_task(
    make_wire_task: Make, values: dict[str, Any], config: str, words: str | None
) -> None:
    wire = make_wire_task(f"\n{config}\n", input_values=values)
    if words is None:
        assert {"a", "j"} <= set(_command(wire).env)
        return
    with pytest.raises(HookError, match=words):
        _command(wire)


def test_an_input_named_like_the_variable_of_another_takes_nothing_from_it(make_wire_task: Make) -> None:
    values = {"x": "mine", "HW_INPUT_x": "theirs"}
    assert _command(make_wire_task("echo $HW_INPUT_x", input_values={"x": "mine"})).env["HW_INPUT_x"] == "mine"
    with pytest.raises(HookError, match=r"input HW_INPUT_x is not exported .*; write \$HW_INPUT_HW_INPUT_x"):
        _command(make_wire_task("echo $HW_INPUT_x", input_values=values))
    assert _command(make_wire_task("echo $x", input_values=values)).env["HW_INPUT_x"] == "mine"


def test_a_small_stack_leaves_less_room(make_wire_task: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1024 * 1024, resource.RLIM_INFINITY))
    with pytest.raises(HookError, match=r"input b is too large .*: it has 80000 bytes, and all .* may have 131072"):
        _command(make_wire_task("echo $a $b", input_values={"a": "x" * 80_000, "b": "x" * 80_000}))


def test_a_hidden_input_that_the_script_reads_is_refused_unless_the_task_exports_it(make_wire_task: Make) -> None:
    hidden = {"input_values": {"password": "canary"}, "hidden_inputs": ["password"]}
    for config in (
        "echo $password",
        "echo $HW_INPUT_password",
        "#!/usr/bin/env python3\nimport os\nos.environ['password']",
    ):
        with pytest.raises(
            HookError, match=r"input password is hidden.*line .* or name it in environment_inputs"
        ) as refused:
            _command(make_wire_task(config, **hidden))
        assert "canary" not in str(refused.value)
        env = _command(make_wire_task(config, **hidden, environment_inputs=["password"])).env
        assert (env["password"], env["HW_INPUT_password"]) == ("canary", "canary")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("#!/bin/bash\r\necho hi\r\n", "which names /bin/bash, ends with a carriage return"),
        ("#!/usr/bin/env python3\r\n", "which names /usr/bin/env python3, ends with a carriage return"),
        ("#!/opt/no/python9 -u\n", "not on this machine: /opt/no/python9;"),
        ("#!/usr/bin/env -S python9 -u\n", "not on this machine: python9"),
        ("#!/etc\n", "/etc, which its first line names, cannot be executed"),
    ],
)
def test_an_interpreter_that_cannot_be_started_is_named(make_wire_task: Make, config: str, words: str) -> None:
    with pytest.raises(HookError, match=words):
        _command(make_wire_task(config))


@pytest.mark.parametrize(
    "config", ["echo hi\r\n", "#!\necho", "#!/bin/sh\necho hi\r\n", "#! /bin/sh\n", "\x7fELF", "#!/usr/bin/env -u X sh"]
)
def test_a_script_that_the_kernel_or_the_shell_takes_is_started(make_wire_task: Make, config: str) -> None:
    assert ("carriage return" in _command(make_wire_task(config)).hint) == ("\r" in config)


def test_the_config_becomes_an_executable_file(make_wire_task: Make) -> None:
    command = _command(make_wire_task("#!/bin/sh\necho\n"))
    assert command.argv == ("/state/run/1/config",)
    assert [(file.name, file.mode) for file in command.files] == [("config", 0o700), ("inputs.json", 0o600)]
    assert _file(command, "config") == "#!/bin/sh\necho\n"


def test_a_config_that_is_not_text_is_a_failed_task(make_wire_task: Make) -> None:
    with pytest.raises(HookError, match="must be text, this one is a dict"):
        _command(make_wire_task({"a": 1}))


def test_the_exit_status_is_the_verdict() -> None:
    hook = BUILT_IN["script"]
    assert hook.verdict(Exit(0, "o", "e", {"a": "1"})).succeeded
    failed = hook.verdict(Exit(3, "o", "e", {"a": "1"}))
    assert (failed.succeeded, failed.code, failed.outputs) == (False, 3, {"a": "1"})
