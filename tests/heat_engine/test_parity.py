# SPDX-License-Identifier: Apache-2.0
"""Parity with Heat's software deployments: every row of the table, shown inside a real Heat."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.harness.hot import Hot
from tests.heat_engine.parity import page
from tests.heat_engine.parity.rows import ROWS, Room, Row

if TYPE_CHECKING:
    from devcloud.cloud import DevCloud
    from devcloud.stacks import Stack
    from heat_workflow.shapes import Task


@pytest.fixture(scope="module")
def room(cloud: DevCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One room for all rows, so that several can look at one stack."""
    from devcloud.stacks import Stacks
    from heat_workflow.client import Client

    stacks, api = Stacks(cloud.session()), Client(cloud.session())
    yield Room(Hot(), cloud, stacks, api, tasks_by(api), tmp_path_factory.mktemp("parity"))
    stacks.delete_all()


def tasks_by(api: object) -> Callable[[Stack], list[Task]]:
    from heat_workflow.client import Client, stack_workflow_id

    assert isinstance(api, Client)

    def tasks(stack: Stack) -> list[Task]:
        workflow_id = stack_workflow_id(stack.id)
        return [api.get_task(workflow_id, task["id"]) for task in api.list_tasks(workflow_id)]

    return tasks


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row(row: Row, room: Room) -> None:
    row.check(room)


def test_the_page_of_the_user_guide_shows_this_table() -> None:
    shown = pathlib.Path(page.PATH).read_text()
    assert shown == page.render(), "run python -m tests.heat_engine.parity.page"
