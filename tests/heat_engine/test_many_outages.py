# SPDX-License-Identifier: Apache-2.0
"""Groups and workflows go on when the tasks API or heat-engine went away in the middle of an action: nothing twice."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client
from heat_workflow.shapes import Task

NAMES = ("group", "slow", "then")


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> pathlib.Path:
    """What waiting scripts wait for."""
    return tmp_path / "gate"


def template(hot: Any, gate: pathlib.Path, release: str) -> dict[str, Any]:
    """A group and a workflow of two tasks, each with a script that waits for the gate of its release."""

    def wait(name: str) -> Any:
        here = f"{gate}.{release}"
        return hot.script(f"echo {release} >> {gate}.{name}; until test -e {here}; do sleep 0.1; done", "out")

    server = {"get_resource": "machine"}
    then = hot.script(f"echo {release} >> {gate}.then")
    tasks = {
        "slow": {"definition": wait("slow"), "server": server},
        "then": {"definition": then, "server": server, "input_values": {"x": {"get_output": ["slow", "out"]}}},
    }
    group = {"definition": wait("group"), "servers": {"one": server}}
    made: dict[str, Any] = hot.template(
        web={"type": "OS::HeatWorkflow::TaskGroup", "properties": group},
        flow={"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks}, "depends_on": "web"},
    )
    return made


def begun(gate: pathlib.Path, name: str, release: str) -> bool:
    path = gate.with_name(f"gate.{name}")
    return path.exists() and path.read_text().splitlines()[-1] == release


def done(gate: pathlib.Path) -> dict[str, list[str]]:
    return {name: gate.with_name(f"gate.{name}").read_text().split() for name in NAMES}


def tasks_of_flow(stack: Stack, api: Client) -> list[Task]:
    return list(api.list_tasks(stack.resource("flow").physical_resource_id))


@pytest.mark.parametrize("at", ["group", "slow"])
def test_a_stack_of_many_tasks_waits_while_the_api_is_away(
    hot: Any, stacks: Stacks, cloud: DevCloud, gate: pathlib.Path, at: str
) -> None:
    stack = stacks.create("away", template(hot, gate, "1"), wait=False)
    if at == "slow":
        gate.with_name("gate.1").touch()
    stack.wait_until(lambda: begun(gate, at, "1"))
    cloud.api.kill()
    gate.with_name("gate.1").touch()
    cloud.api.start()
    stack.wait()
    assert done(gate) == {name: ["1"] for name in NAMES}


def test_g22_a_killed_engine_leaves_tasks_that_the_next_update_takes_over(
    hot: Any, stacks: Stacks, cloud: DevCloud, gate: pathlib.Path, api: Client, tasks_of: Callable[[Stack], list[Task]]
) -> None:
    def killed_at(name: str, release: str) -> None:
        stack.wait_until(lambda: begun(gate, name, release))
        cloud.heat.kill()
        cloud.heat.start()

    stack = stacks.create("engine", template(hot, gate, "1"), wait=False)
    killed_at("group", "1")
    stack.update(template(hot, gate, "1"), wait=False)
    gate.with_name("gate.1").touch()
    stack.wait()
    assert done(gate) == {name: ["1"] for name in NAMES}
    stack.update(template(hot, gate, "2"), wait=False)
    killed_at("group", "2")
    stack.update(template(hot, gate, "2"), wait=False)
    gate.with_name("gate.2").touch()
    stack.wait()
    assert done(gate) == {name: ["1", "2"] for name in NAMES}
    actions = [(task["name"], task["action"], task["state"], task["attempt"]) for task in tasks_of_flow(stack, api)]
    assert [action for action in actions if action[1:] != ("CREATE", "succeeded", 1)] == [
        ("slow", "UPDATE", "succeeded", 1),
        ("then", "UPDATE", "succeeded", 1),
    ]
    assert [task["attempt"] for task in tasks_of(stack)] == [1, 1]
    stack.delete(wait=False)
    cloud.heat.kill()
    cloud.heat.start()
    stack.delete()
    assert all(task["detached"] for task in tasks_of(stack))
