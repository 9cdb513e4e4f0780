# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run our resources inside a real Heat."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.harness.hot import Hot

pytest.register_assert_rewrite("tests.heat_engine.parity")

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


@pytest.fixture
def hot() -> Hot:
    return Hot()
