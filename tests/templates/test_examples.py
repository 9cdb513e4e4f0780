# SPDX-License-Identifier: Apache-2.0
"""The example templates, run as they stand, say what their outputs promise."""

from __future__ import annotations

import email
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client
from heat_workflow.shapes import Task
from tests.docs.pages import blocks

ROOT = pathlib.Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
Tasks = Callable[[Stack], list[Task]]


def test_hello(stacks: Stacks) -> None:
    stack = stacks.create("hello", TEMPLATES / "hello.yaml", parameters={"who": "Heat"})
    assert stack.outputs["text"] == "Hello, Heat!"
    assert stack.outputs["stdout"].startswith("greeted Heat from ")


def test_the_template_on_the_front_page(stacks: Stacks, tmp_path: pathlib.Path) -> None:
    (text,) = [text for language, text in blocks(ROOT / "README.rst") if language == "yaml"]
    template = tmp_path / "readme.yaml"
    template.write_text(text + "\n")
    assert stacks.create("readme", template).outputs == {"said": "Hello, world!"}


def test_two_servers_in_order_and_an_update_that_runs_what_changed(stacks: Stacks, tasks_of: Tasks) -> None:
    stack = stacks.create("two", TEMPLATES / "two_servers.yaml")
    assert stack.outputs == {
        "database_url": "postgresql://db.example:5432/shop",
        "application_url": "https://app.example/?db=postgresql://db.example:5432/shop",
        "verdict": "all is well",
    }
    tasks = {task["name"]: task for task in tasks_of(stack)}
    assert tasks["db"]["server"] != tasks["app"]["server"]
    assert tasks["app"]["heat"]["edges"] == [{"from": "db", "how": "get_attr: db.url"}]
    stack.update(TEMPLATES / "two_servers.yaml", parameters={"port": 5433})
    assert stack.outputs["application_url"] == "https://app.example/?db=postgresql://db.example:5433/shop"
    names = [task["name"] for task in tasks_of(stack)]
    assert sorted(names) == ["app", "app", "db", "db", "smoke_test"]


def test_chain(stacks: Stacks, tasks_of: Tasks) -> None:
    stack = stacks.create("chain", TEMPLATES / "chain.yaml")
    assert stack.outputs == {"count": "20"}
    assert len(tasks_of(stack)) == 20


def test_boot_agent(stacks: Stacks) -> None:
    stack = stacks.create("boot", TEMPLATES / "boot_agent.yaml")
    assert stack.outputs["kernel"] == f"{os.uname().release}\n"
    _, ours, theirs = email.message_from_string(stack.outputs["user_data"]).walk()
    assert str(ours.get_payload()).startswith("#!/bin/sh\n")
    assert str(theirs.get_payload()).startswith("#cloud-config\n")


def test_a_template_for_stock_heat_runs_unchanged_with_the_drop_in_environment(stacks: Stacks, tasks_of: Tasks) -> None:
    stock = pathlib.Path(__file__).parent / "stock" / "deployments.yaml"
    drop_in = TEMPLATES / "environments" / "drop-in.yaml"
    stack = stacks.create("stock", stock, environment=drop_in)
    machine = stack.resource("machine").physical_resource_id
    assert stack.outputs == {
        "summary": "configured plain-1.0",
        "install_stdout": f"installing 1.0 for install (CREATE) on {machine}\n",
        "install_stderr": "a warning\n",
        "install_status_code": 0,
        "server_name": "machine",
        "collect": {},
    }
    stack.update(stock, environment=drop_in, parameters={"release": "2.0"})
    assert stack.outputs["summary"] == "configured plain-2.0"
    assert [(task["name"], task["action"]) for task in tasks_of(stack)] == [
        ("install", "CREATE"),
        ("configure", "CREATE"),
        ("install", "UPDATE"),
        ("configure", "UPDATE"),
    ]


def test_group(stacks: Stacks, tasks_of: Tasks) -> None:
    stack = stacks.create("group", TEMPLATES / "group.yaml")
    assert stack.outputs == {
        "addresses": {"one": "one.example", "two": "two.example"},
        "address_of_two": "two.example",
        "status_codes": {"one": 0, "two": 0},
    }
    assert sorted(task["name"] for task in tasks_of(stack)) == ["web/one", "web/two"]


def test_rolling_tolerates_one_failure_at_first_and_brings_all_up_to_date_later(
    stacks: Stacks, tasks_of: Tasks
) -> None:
    stack = stacks.create("rolling", TEMPLATES / "rolling.yaml")
    assert stack.outputs["failed"] == ["third"]
    stack.update(TEMPLATES / "rolling.yaml", parameters={"release": "1.1"})
    assert stack.outputs == {"running": dict.fromkeys(("first", "second", "third"), "1.1"), "failed": []}
    actions = {task["name"]: task["action"] for task in tasks_of(stack)}
    assert actions == {"nodes/first": "UPDATE", "nodes/second": "UPDATE", "nodes/third": "CREATE"}


def test_workflow_and_an_update_of_one_value(stacks: Stacks, api: Client) -> None:
    stack = stacks.create("workflow", TEMPLATES / "workflow.yaml")
    states = dict.fromkeys(("database", "application", "smoke_test"), "succeeded")
    url = "https://app.example/?db=postgresql://db.example:{}/shop"
    assert stack.outputs == {"application_url": url.format(5432), "states": states}
    stack.update(TEMPLATES / "workflow.yaml", parameters={"port": 5433})
    assert stack.outputs == {"application_url": url.format(5433), "states": states}
    assert len(list(api.list_tasks(stack.resource("shop").physical_resource_id))) == 6


def test_fan_out(stacks: Stacks) -> None:
    outputs = stacks.create("fan", TEMPLATES / "fan_out.yaml").outputs
    assert outputs["addresses"].keys() == {"a", "b"}
    assert json.loads(outputs["seen"]) == outputs["addresses"]


def test_undo(stacks: Stacks, tmp_path: pathlib.Path) -> None:
    kept = stacks.create("kept", TEMPLATES / "undo.yaml", parameters={"directory": str(tmp_path)})
    assert pathlib.Path(kept.outputs["place"]).is_dir()
    values = {"directory": str(tmp_path), "fails": True}
    with pytest.raises(DevCloudError, match=r"task use on server .* exit code 1.*; undone: reserve"):
        stacks.create("undone", TEMPLATES / "undo.yaml", parameters=values)
    assert [str(path) for path in tmp_path.iterdir()] == [kept.outputs["place"]]


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("structured", {"summary": "nginx on 80 and 443"}),
        ("retry", {"attempts": "3"}),
        ("hidden", {"length": "13", "accepted": "yes", "told": "yes"}),
        ("concurrency_key", {"status_codes": {"left": 0, "right": 0}}),
        ("capabilities", {"signature": "signed image-1"}),
    ],
)
def test_an_example_says_what_it_promises(stacks: Stacks, tmp_path: pathlib.Path, name: str, outputs: Any) -> None:
    places = {"directory": str(tmp_path)} if name in ("retry", "concurrency_key") else {}
    assert stacks.create(name, TEMPLATES / f"{name}.yaml", parameters=places).outputs == outputs


def test_every_example_is_run_by_a_test() -> None:
    text = pathlib.Path(__file__).read_text()
    unrun = [
        path.stem for path in TEMPLATES.glob("*.yaml") if f'"{path.name}"' not in text and f'("{path.stem}"' not in text
    ]
    assert unrun == []


def test_groups_and_structured_configs_for_stock_heat_run_unchanged(stacks: Stacks, tasks_of: Tasks) -> None:
    stock = pathlib.Path(__file__).parent / "stock" / "groups.yaml"
    stack = stacks.create("stock-groups", stock, environment=TEMPLATES / "environments" / "drop-in.yaml")
    outputs = stack.outputs
    assert outputs["said"] == {"east": "hello east", "west": "hello west"}
    assert outputs["stdouts"] == {"east": "on east\n", "west": "on west\n"}
    assert outputs["codes"] == outputs["alias_codes"] == {"east": 0, "west": 0}
    configs = {task["name"]: task["definition"]["config"] for task in tasks_of(stack)}
    expected = {"motd": "to all: hello", "missing": None, "kept": {"get_input": "greeting", "and": "more"}}
    assert configs["structured"] == expected
    assert configs["structured_group/east"] == configs["structured_alias/west"] == expected


def test_servers_that_a_resource_group_or_a_nested_stack_makes(stacks: Stacks) -> None:
    stock = pathlib.Path(__file__).parent / "stock" / "resource_group.yaml"
    drop_in = TEMPLATES / "environments" / "drop-in.yaml"
    stack = stacks.create("made", stock, environment=drop_in)
    said = {
        "by_map": {"0": "CREATE after CREATE after nobody", "1": "CREATE after CREATE after nobody"},
        "by_attributes": {"0": "CREATE after nobody"},
        "by_name": "CREATE after nobody",
        "nested": "CREATE after nobody",
    }
    assert stack.outputs == said
    stack.update(stock, environment=drop_in, parameters={"count": 3})
    said["by_map"] = dict.fromkeys("012", "CREATE after CREATE after nobody")
    assert stack.outputs == said, "it ran on the new server alone"
