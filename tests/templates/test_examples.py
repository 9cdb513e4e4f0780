# SPDX-License-Identifier: Apache-2.0
"""The example templates, run as they stand, say what their outputs promise."""

from __future__ import annotations

import email
import os
import pathlib
from collections.abc import Callable

from devcloud.stacks import Stack, Stacks
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
