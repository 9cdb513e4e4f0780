# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run our resources inside a real Heat."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from devcloud.cloud import DevCloud
    from devcloud.stacks import Stack
    from heat_workflow.client import Client
    from heat_workflow.shapes import Task


@pytest.fixture
def api(cloud: DevCloud) -> Client:
    """The tasks API as the user who owns the stacks sees it."""
    # Imported here: at the time a conftest is loaded warnings of OpenStack's libraries are errors still.
    from heat_workflow.client import Client

    return Client(cloud.session())


@pytest.fixture
def tasks_of(api: Client) -> Callable[[Stack], list[Task]]:
    """All tasks that a stack has ever added, oldest first, with everything that is known of them."""
    from heat_workflow import errors
    from heat_workflow.client import stack_workflow_id

    def tasks(stack: Stack) -> list[Task]:
        workflow_id = stack_workflow_id(stack.id)
        try:
            return [api.get_task(workflow_id, task["id"]) for task in api.list_tasks(workflow_id)]
        except errors.NotFound:
            return []

    return tasks


class Hot:
    """Builds small templates around one server named machine."""

    machine = {"type": "OS::HeatWorkflow::DeployedServer", "properties": {"name": "machine"}}

    def script(self, text: str, *outputs: str, **inputs: str) -> dict[str, Any]:
        """A definition: the script, the outputs it declares, the inputs it declares with their types."""
        return {
            "group": "script",
            "config": f"#!/bin/sh -e\n{text}\n",
            "inputs": [{"name": name, "type": kind} for name, kind in inputs.items()],
            "outputs": [{"name": name} for name in outputs],
        }

    def config(self, text: str, *outputs: str, **inputs: str) -> dict[str, Any]:
        """The same as a resource of Heat's."""
        return {"type": "OS::Heat::SoftwareConfig", "properties": self.script(text, *outputs, **inputs)}

    def task(self, what: dict[str, Any] | str, **properties: Any) -> dict[str, Any]:
        """A Task on the machine: of a definition, or of the config resource of that name."""
        source = {"config": {"get_resource": what}} if isinstance(what, str) else {"definition": what}
        own = {**source, "server": {"get_resource": "machine"}, **properties}
        return {"type": "OS::HeatWorkflow::Task", "properties": own}

    def template(self, outputs: dict[str, Any] | None = None, **resources: Any) -> dict[str, Any]:
        """A template of the machine and the resources."""
        return {
            "heat_template_version": "2021-04-16",
            "resources": {"machine": self.machine, **resources},
            "outputs": {name: {"value": value} for name, value in (outputs or {}).items()},
        }


@pytest.fixture
def hot() -> Hot:
    return Hot()
