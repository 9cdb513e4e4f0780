# SPDX-License-Identifier: Apache-2.0
"""Fixtures: guests with real agent processes, enrolled at the real API of this folder's parent."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.callers import Operator
from tests.harness.machine import Machine
from tests.harness.small_api import Api, serving

Boot = Callable[..., Machine]
Add = Callable[..., dict[str, Any]]


@pytest.fixture
def boot(tmp_path: Path, operator: Operator) -> Iterator[Boot]:
    """Boots guests: each an agent registered for a server of its own name, running."""
    guests: list[Machine] = []

    def make(server: str = "s1", url: str = "", by: Operator | None = None, **options: str) -> Machine:
        caller = by or operator
        agent_id, join_token = caller.register(server=server)
        guest = Machine(tmp_path / f"guest-{server}", url or caller.url, agent_id, join_token, **options)
        guests.append(guest)
        guest.start()
        return guest

    yield make
    for guest in guests:
        guest.end()


@pytest.fixture
def machine(boot: Boot) -> Machine:
    """One guest, for server ``s1``."""
    return boot()


@pytest.fixture
def fake() -> Iterator[Api]:
    """An API of the test's own making, for what the real one would not say."""
    with serving() as book:
        yield book


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user gets through to."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def open_machine(boot: Boot) -> Iterator[Machine]:
    """A guest whose state directory other users can get through to, as below /var/lib."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    guest = boot(state_dir=str(directory / "state"))
    yield guest
    guest.end()
    shutil.rmtree(directory)


@pytest.fixture
def add(operator: Operator) -> Add:
    """Adds a task for server ``s1`` to a workflow of its own; keywords are fields of the task or its definition."""

    def make(config: Any = "", by: Operator | None = None, **fields: Any) -> dict[str, Any]:
        caller = by or operator
        definition = {"group": fields.pop("group", "script"), "config": config}
        for name in ("options", "inputs", "outputs"):
            if name in fields:
                definition[name] = fields.pop(name)
        workflow = caller.workflow(name=uuid.uuid4().hex)
        return caller.task(workflow, definition=definition, **{"server": "s1", **fields})

    return make


@pytest.fixture
def finished(operator: Operator) -> Callable[..., dict[str, Any]]:
    """The task once it is finished."""

    def wait(task: dict[str, Any], by: Operator | None = None) -> dict[str, Any]:
        for _ in range(4):
            shown = (by or operator).show(task, wait=20)
            if shown["finished_at"] is not None:
                return shown
        raise AssertionError(f"not finished: {shown['state']}, {shown['waiting_for']}")

    return wait
