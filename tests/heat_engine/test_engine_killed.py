# SPDX-License-Identifier: Apache-2.0
"""G22, F41: heat-engine killed at every step of every handler; after it no task ran twice, none is lost."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.heat_kill import order_kill
from devcloud.stacks import Stack, Stacks
from tests.faults.counts import F41_MOMENTS


def moments(*steps: str) -> list[tuple[str, str]]:
    return [(when, step) for step in steps for when in F41_MOMENTS]


def template(hot: Any, diary: pathlib.Path, version: str, **properties: Any) -> dict[str, Any]:
    """A task that writes down what it does, and one that needs its output."""
    say = hot.script(f"echo $deploy_action {version} >> {diary}; printf {version} > $heat_outputs_path.said", "said")
    use = hot.script(f"echo use $x >> {diary}; printf $x > $heat_outputs_path.used", "used", x="String")
    made: dict[str, Any] = hot.template(
        {"used": {"get_attr": ["use", "used"]}},
        say=hot.task(say, **properties),
        use=hot.task(use, input_values={"x": {"get_attr": ["say", "said"]}}),
    )
    return made


def die_and_come_back(cloud: DevCloud, stack: Stack) -> None:
    """Wait for Heat's end, then start it again."""
    assert cloud.heat.wait(60), f"nothing of stack {stack.name} came to the step"
    cloud.heat.start()


@pytest.fixture
def diary(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "diary"


@pytest.mark.parametrize(("when", "step"), moments("put_agent", "save_runs", "put_task", "get_task"))
def test_killed_while_creating(
    when: str, step: str, hot: Any, stacks: Stacks, cloud: DevCloud, diary: pathlib.Path
) -> None:
    order_kill(cloud.directory, when, step)
    stack = stacks.create("create", template(hot, diary, "one"), wait=False)
    die_and_come_back(cloud, stack)
    stack.update(template(hot, diary, "one"))
    assert stack.outputs == {"used": "one"}
    assert diary.read_text().splitlines() == ["CREATE one", "use one"]


@pytest.mark.parametrize(("when", "step"), moments("save_runs", "put_task"))
def test_killed_while_updating(
    when: str, step: str, hot: Any, stacks: Stacks, cloud: DevCloud, diary: pathlib.Path
) -> None:
    stack = stacks.create("update", template(hot, diary, "one"))
    order_kill(cloud.directory, when, step)
    stack.update(template(hot, diary, "two"), wait=False)
    die_and_come_back(cloud, stack)
    stack.update(template(hot, diary, "two"))
    assert stack.outputs == {"used": "two"}
    assert diary.read_text().splitlines() == ["CREATE one", "use one", "UPDATE two", "use two"]


@pytest.mark.parametrize(("when", "step"), moments("put_task", "delete_task"))
def test_killed_while_deleting(
    when: str, step: str, hot: Any, stacks: Stacks, cloud: DevCloud, diary: pathlib.Path
) -> None:
    stack = stacks.create("delete", template(hot, diary, "one", actions=["CREATE", "DELETE"]))
    order_kill(cloud.directory, when, step)
    stack.delete(wait=False)
    die_and_come_back(cloud, stack)
    stack.delete()
    assert diary.read_text().splitlines() == ["CREATE one", "use one", "DELETE one"]


@pytest.mark.parametrize(("when", "step"), moments("undo_task"))
def test_killed_while_taking_back(
    when: str, step: str, hot: Any, stacks: Stacks, cloud: DevCloud, diary: pathlib.Path
) -> None:
    undo = hot.script(f"echo undo $said >> {diary}")
    stack = stacks.create("undo", template(hot, diary, "one", undo=undo))
    order_kill(cloud.directory, when, step)
    without = hot.template()
    stack.update(without, wait=False)
    die_and_come_back(cloud, stack)
    stack.update(without)
    assert diary.read_text().splitlines() == ["CREATE one", "use one", "undo one"]


@pytest.mark.parametrize(("when", "step"), [("after", "put_agent"), ("before", "patch_agent")])
def test_killed_while_nova_makes_a_server(
    when: str, step: str, hot: Any, stacks: Stacks, cloud: DevCloud, diary: pathlib.Path
) -> None:
    def servers() -> set[pathlib.Path]:
        return set((cloud.directory / "nova").glob("*.json"))

    before, source = servers(), template(hot, diary, "one")
    usual = {"flavor": "m1.small", "image": "debian", "networks": [{"allocate_network": "none"}]}
    booted = {**usual, "user_data_format": "SOFTWARE_CONFIG"}
    source["resources"]["machine"] = {"type": "OS::HeatWorkflow::Server", "properties": booted}
    order_kill(cloud.directory, when, step)
    stack = stacks.create("server", source, wait=False)
    die_and_come_back(cloud, stack)
    stack.update(source)
    assert diary.read_text().splitlines() == ["CREATE one", "use one"]
    assert len(servers() - before) == 1, "Nova made one server"
