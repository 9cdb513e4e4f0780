# SPDX-License-Identifier: Apache-2.0
"""The script hook: what command a task becomes; nothing is run here."""

from __future__ import annotations

import json
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
    command = _command(make_wire_task("x", input_values={"big": "x" * ONE_LIMIT, "small": "s"}))
    assert "big" not in command.env
    assert command.env["small"] == "s"
    assert command.notes == ("inputs too large for the environment, only in $HW_INPUTS_FILE: big",)


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
