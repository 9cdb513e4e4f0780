# SPDX-License-Identifier: Apache-2.0
"""The hooks there are: which program a group finds, what is live, what is refused; nothing is run here (S35, S36)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guest_agent.errors import HookError
from guest_agent.hooks import Hooks
from guest_agent.hooks.component import for_action
from guest_agent.hooks.contract import Command, Place
from guest_agent.hooks.heat_config import HeatConfigHook
from guest_agent.live_configs import LiveConfigs
from guest_agent.outputs import within_limits
from guest_agent.state_dir import StateDir
from guest_agent.task import read_task

Make = Callable[..., dict[str, Any]]
PLACE = Place("/state/run/1")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "hooks"
    made.mkdir()
    for name in ("tool", "script", "dockercmd", "50-heat-config-tool"):
        (made / name).write_text("#!/bin/sh\n")
        (made / name).chmod(0o755)
    (made / "notes").write_text("not executable\n")
    return made


@pytest.fixture
def hooks(state: StateDir, directory: Path) -> Hooks:
    return Hooks(HeatConfigHook((str(directory), "/no/such"), LiveConfigs(state.root)))


def _live(command: Command) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(next(file.text for file in command.files if file.name == "heat-config"))
    return found


@pytest.mark.parametrize(
    "group",
    [
        *("../../bin/sh", "../hooks/tool", "tool;id", "Script", "scr\u0131pt", "", "script ", "to\u0660ol", "notes"),
        "50-heat-config-tool",
    ],
)
def test_s36_an_unknown_group_names_the_hooks_there_are(hooks: Hooks, make_wire_task: Make, group: str) -> None:
    with pytest.raises(
        HookError,
        match=r"unknown hook .*: this agent has ansible, dockercmd, heat-workflow-agent, puppet, script, tool",
    ):
        hooks.prepare(read_task(make_wire_task("x", group=group)), PLACE)


def test_a_group_finds_its_program_as_heat_config_would(hooks: Hooks, make_wire_task: Make, directory: Path) -> None:
    command = hooks.prepare(read_task(make_wire_task("x", group="docker.cmd")), PLACE)
    assert command.argv == (str(directory / "dockercmd"),)
    assert hooks.prepare(read_task(make_wire_task("x", group="tool")), PLACE).argv == ("/state/run/1/steps",)


def test_a_built_in_hook_wins_over_a_program_of_the_same_name(hooks: Hooks, make_wire_task: Make) -> None:
    assert hooks.prepare(read_task(make_wire_task("x")), PLACE).hook == "script"


def test_a_config_lives_until_its_name_runs_anew_or_is_deleted(hooks: Hooks, make_wire_task: Make) -> None:
    def run(name: str, action: str = "CREATE", group: str = "dockercmd") -> tuple[str, list[str]]:
        wire = make_wire_task("x", group=group, name=name, action=action, workflow_id="w")
        command = hooks.prepare(read_task(wire), PLACE)
        return wire["id"], [entry["id"] for entry in _live(command)] if group == "dockercmd" else []

    first, live = run("a")
    assert live == [first]
    second, live = run("b")
    assert live == [first, second]
    third, live = run("a", "UPDATE")
    assert live == [third, second]
    deleting, live = run("b", "DELETE")
    assert live == [third, deleting]
    run("a", "UPDATE", group="script")
    last, live = run("c")
    assert live == [last]
    hooks.forget()
    assert run("d")[1] != [last]


def test_a_hidden_input_is_on_stdin_and_not_among_the_live_configs(hooks: Hooks, make_wire_task: Make) -> None:
    wire = make_wire_task("x", group="dockercmd", input_values={"p": "canary"}, hidden_inputs=["p"])
    command = hooks.prepare(read_task(wire), PLACE)
    assert "canary" in next(file.text for file in command.files if file.name == command.stdin)
    assert "canary" not in json.dumps(_live(command))
    assert "canary" not in " ".join([*command.argv, *command.env.values()])


def test_a_component_without_entries_is_a_failed_task(make_wire_task: Make) -> None:
    with pytest.raises(HookError, match="must hold a list 'configs'"):
        for_action(read_task(make_wire_task("x", group="component")))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\0b", "NUL"),
        ("\ud800", "not UTF-8"),
        ({"a": [float("nan")]}, "not finite"),
        (2**64, "64 bits"),
        (json.loads("[" * 60 + "]" * 60), "too deep"),
        ("x" * 300_000, "too large"),
        ({"a\0": 1}, "NUL"),
    ],
)
def test_a_json_output_that_no_store_takes_is_left_out_and_told(value: Any, words: str) -> None:
    values, problems = within_limits({"good": {"a": [1, None, True]}, "bad": value})
    assert values == {"good": {"a": [1, None, True]}}
    assert len(problems) == 1
    assert words in problems[0]
