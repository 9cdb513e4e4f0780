# SPDX-License-Identifier: Apache-2.0
"""OS::HeatWorkflow::TaskGroup in a real Heat: one resource, many servers, and only what changed runs again."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.shapes import Task

Tasks = Callable[[Stack], list[Task]]
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def fleet(cloud: Any) -> Any:
    """Three servers that outlive the stacks of this module, by name."""
    stacks = Stacks(cloud.session())
    machine = "OS::HeatWorkflow::DeployedServer"
    resources = {name: {"type": machine, "properties": {"name": f"fleet-{name}"}} for name in NAMES}
    outputs = {name: {"value": {"get_resource": name}} for name in NAMES}
    source = {"heat_template_version": "2021-04-16", "resources": resources, "outputs": outputs}
    yield stacks.create("fleet", source).outputs
    stacks.delete_all()


def group(hot: Any, servers: dict[str, str], what: dict[str, Any], policy: Any = None, **properties: Any) -> Any:
    own: dict[str, Any] = {"definition": what, "servers": servers, **properties}
    resource = {"type": "OS::HeatWorkflow::TaskGroup", "properties": own}
    return {**resource, "update_policy": policy} if policy else resource


def template(hot: Any, outputs: dict[str, Any] | None = None, **resources: Any) -> dict[str, Any]:
    source: dict[str, Any] = hot.template(outputs, **resources)
    del source["resources"]["machine"]
    return source


def runs(tasks: list[Task]) -> list[tuple[str, str, str]]:
    return [(task["name"], task["action"], task["state"]) for task in tasks]


def test_one_resource_runs_everywhere_and_gives_maps(hot: Any, stacks: Stacks, fleet: Any, tasks_of: Tasks) -> None:
    say = hot.script("echo $deploy_server_id; echo $deploy_resource_name >&2; printf x > $heat_outputs_path.url", "url")
    names = ["url", "urls", "deploy_stdouts", "deploy_stderr", "deploy_status_codes", "outputs", "failed", "task_ids"]
    outputs: dict[str, Any] = {name: {"get_attr": ["web", name]} for name in names}
    outputs["one"] = {"get_attr": ["web", "url", "b"]}
    stack = stacks.create("group", template(hot, outputs, web=group(hot, fleet, say)))
    said = stack.outputs
    ids = said.pop("task_ids")
    assert said == {
        "url": dict.fromkeys(NAMES, "x"),
        "urls": dict.fromkeys(NAMES, "x"),
        "deploy_stdouts": {name: f"{fleet[name]}\n" for name in NAMES},
        "deploy_stderr": {name: f"{name}\n" for name in NAMES},
        "deploy_status_codes": dict.fromkeys(NAMES, 0),
        "outputs": {name: {"url": "x"} for name in NAMES},
        "failed": [],
        "one": "x",
    }
    tasks = tasks_of(stack)
    assert {task["name"]: task["id"] for task in tasks} == {f"web/{name}": ids[name] for name in NAMES}
    assert [resource.resource_name for resource in stack.resources()] == ["web"]
