# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the agent's fault tests: one real API on SQLite, a nursery of agents, guests that are kept alive."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heat_workflow.store import schema
from tests.harness.callers import Operator, new_id
from tests.harness.guests import AGENT, CounterFile, Guest
from tests.harness.nursery import Nursery
from tests.harness.replicas import Replica

Task = dict[str, Any]


@dataclasses.dataclass
class Cloud:
    """A real API and its store. Claims may come as often as they like, for agents that die all the time."""

    api: Replica
    store: str


@pytest.fixture(scope="session")
def cloud(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("agent-faults")
    store = f"sqlite:///{directory}/store.sqlite"
    schema.sync(store)
    api = Replica(nursery, directory, store)
    api.start(before="tests.faults.sabotage:in_a_hurry")
    yield Cloud(api, store)
    api.kill()


@pytest.fixture(scope="session")
def agents() -> Iterator[Nursery]:
    nursery = Nursery(AGENT)
    yield nursery
    nursery.close()


@pytest.fixture
def operator(cloud: Cloud, project: str) -> Operator:
    return Operator(cloud.api.url, project)


@pytest.fixture
def counter(tmp_path: Path) -> CounterFile:
    return CounterFile(tmp_path / "counter")


@pytest.fixture
def make_guest(agents: Nursery, tmp_path: Path, operator: Operator) -> Iterator[Callable[..., Guest]]:
    """Registers and makes guests; they are not started. What runs of them in the end is ended."""
    made: list[Guest] = []

    def make(server: str = "s1", url: str = "", **options: str) -> Guest:
        agent_id, join_token = operator.register(server=server)
        guest = Guest(agents, tmp_path / f"guest-{server}", url or operator.url, agent_id, join_token, **options)
        made.append(guest)
        return guest

    yield make
    for guest in made:
        guest.end()


@pytest.fixture
def guest(make_guest: Callable[..., Guest]) -> Guest:
    """A guest for server ``s1``, not started."""
    return make_guest()


@pytest.fixture
def add(operator: Operator) -> Callable[..., Task]:
    """Adds a task for server ``s1`` whose script has the output ``y``."""

    def make(config: str, server: str = "s1", **fields: Any) -> Task:
        definition = {"group": fields.pop("group", "script"), "config": config, "outputs": [{"name": "y"}]}
        definition["inputs"] = fields.pop("inputs", [])
        workflow_id = operator.workflow(name=uuid.uuid4().hex)
        return operator.task(workflow_id, f"t-{new_id()}", definition=definition, server=server, **fields)

    return make


@pytest.fixture
def finished(operator: Operator) -> Callable[[Task], Task]:
    """The task once it is finished."""

    def wait(task: Task) -> Task:
        for _ in range(4):
            shown = operator.show(task, wait=20)
            if shown["finished_at"] is not None:
                return shown
        raise AssertionError(f"not finished: {shown['state']}, {shown['waiting_for']}")

    return wait


@pytest.fixture
def cancel(operator: Operator) -> Callable[[Task], None]:
    """Cancels a task."""

    def order(task: Task) -> None:
        answer = operator.call("POST", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/cancel")
        assert answer.status_code == 202, answer.text

    return order
