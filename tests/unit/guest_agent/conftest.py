# SPDX-License-Identifier: Apache-2.0
"""What the agent's tests share: a trusted directory, tasks, a runner, a small API server that answers as told."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest_agent.runner import Runner
from guest_agent.state_dir import StateDir
from tests.harness.machine import wait_for
from tests.harness.small_api import Api, Wire, serving, wire_task

NOBODY = 65534


@pytest.fixture
def root() -> None:
    """For tests that mount, make files immutable or become another user; skipped, in words, for others than root."""
    if os.geteuid() != 0:
        pytest.skip("only root can prepare what is tested here")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(str(tmp_path / "state"))


@pytest.fixture
def open_home(root: None) -> Iterator[Path]:
    """A directory of nobody's that nobody gets through to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chown(directory, NOBODY, NOBODY)
        yield Path(directory)


@pytest.fixture
def runner(state: StateDir) -> Iterator[Runner]:
    made = Runner(state)
    yield made
    made.close()


@pytest.fixture
def make_wire_task() -> Callable[..., Wire]:
    return wire_task


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as book:
        yield book


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return wait_for
