# SPDX-License-Identifier: Apache-2.0
"""Outages: a stack goes on when the tasks API, its token or heat-engine went away in the middle of it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.shapes import Task

Tasks = Callable[[Stack], list[Task]]


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> pathlib.Path:
    """What a waiting script waits for."""
    return tmp_path / "gate"


def waiting_script(hot: Any, gate: pathlib.Path) -> dict[str, Any]:
    """Says that it has begun, then runs until the gate is there."""
    text = f"touch {gate}.reached; until test -e {gate}; do sleep 0.1; done; printf done > $heat_outputs_path.said"
    made: dict[str, Any] = hot.script(text, "said")
    return made


def reached(gate: pathlib.Path) -> bool:
    return gate.with_name("gate.reached").exists()


def template(hot: Any, gate: pathlib.Path) -> dict[str, Any]:
    made: dict[str, Any] = hot.template(
        {"said": {"get_attr": ["after", "said"]}},
        slow=hot.task(waiting_script(hot, gate)),
        after=hot.task(
            hot.script("printf %s $x > $heat_outputs_path.said", "said", x="String"),
            input_values={"x": {"get_attr": ["slow", "said"]}},
        ),
    )
    return made


def test_a_stack_waits_while_the_api_is_away(
    hot: Any, stacks: Stacks, cloud: DevCloud, gate: pathlib.Path, tasks_of: Tasks
) -> None:
    stack = stacks.create("away", template(hot, gate), wait=False)
    stack.wait_until(lambda: reached(gate))
    cloud.api.kill()
    gate.touch()
    cloud.api.start()
    stack.wait()
    assert stack.outputs == {"said": "done"}
    assert [(task["name"], task["attempt"]) for task in tasks_of(stack)] == [("slow", 1), ("after", 1)]


def test_a_delete_waits_while_the_api_is_away(hot: Any, stacks: Stacks, cloud: DevCloud, tasks_of: Tasks) -> None:
    stack = stacks.create("later", hot.template(say=hot.task(hot.script("true"))))
    cloud.api.stop()
    try:
        stack.delete(wait=False)
        stack.wait_until(lambda: stack.resource("say").resource_status == "DELETE_IN_PROGRESS")
    finally:
        cloud.api.start()
    stack.wait_until_gone()
    assert [task["detached"] for task in tasks_of(stack)] == [True]


def test_a_stack_outlives_its_token(hot: Any, cloud: DevCloud, gate: pathlib.Path) -> None:
    person = cloud.create_person("long-operations", ["member", "heat_stack_owner"])
    stacks = Stacks(person.session)
    stack = stacks.create("token", template(hot, gate), wait=False)
    stack.wait_until(lambda: reached(gate))
    token = person.session.get_token()
    person.session.delete(f"{cloud.auth_url}/auth/tokens", headers={"X-Subject-Token": token})
    person.session.invalidate()
    cloud.api.stop()  # what it remembers of the token goes with it
    cloud.api.start()
    gate.touch()
    stack.wait()
    assert stack.outputs == {"said": "done"}
    stacks.delete_all()


def test_a_killed_engine_leaves_one_task_that_the_next_update_takes_over(
    hot: Any, stacks: Stacks, cloud: DevCloud, gate: pathlib.Path, tasks_of: Tasks
) -> None:
    stack = stacks.create("engine", template(hot, gate), wait=False)
    stack.wait_until(lambda: reached(gate))
    cloud.heat.kill()
    cloud.heat.start()
    stack.update(template(hot, gate), wait=False)
    gate.touch()
    stack.wait()
    assert stack.outputs == {"said": "done"}
    assert [(task["name"], task["attempt"]) for task in tasks_of(stack)] == [("slow", 1), ("after", 1)]


def test_a_server_whose_registration_failed_is_registered_by_the_next_update(
    hot: Any, stacks: Stacks, cloud: DevCloud
) -> None:
    cloud.api.stop()
    try:
        stack = stacks.create("unregistered", hot.template(), wait=False)
        with pytest.raises(DevCloudError):
            stack.wait()
    finally:
        cloud.api.start()
    before = stack.resource("machine").physical_resource_id
    stack.update(hot.template(say=hot.task(hot.script("true"))))
    assert stack.resource("machine").physical_resource_id == before
