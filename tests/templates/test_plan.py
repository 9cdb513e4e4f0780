# SPDX-License-Identifier: Apache-2.0
"""The plan of a template, made without a cloud, against what the plugin records of the same template in a real Heat."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from devcloud.stacks import Stack, Stacks
from heat_workflow import errors
from heat_workflow.client import Client, stack_workflow_id

HERE = pathlib.Path(__file__).parent
TEMPLATES = HERE.parents[1] / "templates"
DROP_IN = TEMPLATES / "environments" / "drop-in.yaml"


def plan(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heat_workflow.plan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def planned(*arguments: str | pathlib.Path) -> dict[str, Any]:
    done = plan(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def told(shown: dict[str, Any], path: str) -> list[dict[str, str]]:
    """The edges to a node that Heat orders by, named as within its stack."""
    ordered = [edge for edge in shown["edges"] if edge["to"] == path]
    words = ("depends_on", "get_attr: ", "get_resource: ")
    named = [
        {"from": edge["from"].rpartition("/")[2], "how": edge["how"]}
        for edge in ordered
        if edge["how"].startswith(words)
    ]
    return sorted(named, key=lambda edge: (edge["from"], edge["how"]))


def recorded(stack: Stack, api: Client) -> dict[str, list[Any]]:
    """By task path, the edges that the plugin has told the API."""
    found: dict[str, list[Any]] = {}
    try:
        for task in api.list_tasks(stack_workflow_id(stack.id)):
            found[task["name"] if not task["fanout"] else task["fanout"]] = task["heat"]["edges"]
    except errors.NotFound:
        pass
    for resource in stack.resources():
        if resource.resource_type == "OS::HeatWorkflow::Workflow":
            for task in api.list_tasks(resource.physical_resource_id):
                found[f"{resource.resource_name}/{task['fanout'] or task['name']}"] = task["heat"]["edges"]
    return found


@pytest.mark.parametrize(
    ("template", "environment", "longest"),
    [
        (HERE / "plans" / "every_way.yaml", None, 10),
        (HERE / "stock" / "groups.yaml", DROP_IN, 1),
        (TEMPLATES / "workflow.yaml", None, 4),
    ],
    ids=lambda value: value.stem if isinstance(value, pathlib.Path) else None,
)
def test_the_plan_is_what_a_real_heat_does(
    stacks: Stacks, api: Client, template: pathlib.Path, environment: pathlib.Path | None, longest: int
) -> None:
    shown = planned(template, *(("-e", environment) if environment else ()))
    stack = stacks.create("plan", template, environment=environment)
    edges = recorded(stack, api)
    kinds = {node["name"]: node["type"] for node in shown["nodes"]}
    tasks = {name for name, kind in kinds.items() if not kind.endswith(("Workflow", "ResourceGroup", ".yaml"))}
    assert tasks == edges.keys()
    assert {name: told(shown, name) for name in edges} == edges
    assert len(shown["critical_path"]) == longest


def test_dot_shows_nodes_edges_and_the_critical_path() -> None:
    done = plan(TEMPLATES / "two_servers.yaml")
    assert done.returncode == 0, done.stderr
    assert '"db" -> "app" [label="get_attr: db.url", style=bold];' in done.stdout
    assert '"db" -> "smoke_test" [label="depends_on"];' in done.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"db": {"depends_on": "smoke_test"}}, "resources require each other in a circle: "),
        ({"db": {"depends_on": "nowhere"}}, "resource db waits for nowhere, which is not in the template"),
        ({"flow": {"a": ["b"], "b": ["c"], "c": ["a"]}}, "tasks of flow require each other in a circle: "),
    ],
)
def test_a_circle_is_named(tmp_path: pathlib.Path, change: dict[str, Any], words: str) -> None:
    import yaml

    source = yaml.load((TEMPLATES / "two_servers.yaml").read_text(), Loader=yaml.BaseLoader)
    for name, fields in change.items():
        if name in source["resources"]:
            source["resources"][name].update(fields)
        else:
            tasks = {
                task: {"definition": {"config": "x"}, "server": "s", "requires": of} for task, of in fields.items()
            }
            source["resources"][name] = {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks}}
    (tmp_path / "circle.yaml").write_text(yaml.safe_dump(source))
    done = plan(tmp_path / "circle.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_template_is_refused_in_words(tmp_path: pathlib.Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    for name, words in (("list.yaml", "is no YAML map"), ("nothing.yaml", "cannot be read")):
        done = plan(tmp_path / name)
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (1, True, False)
