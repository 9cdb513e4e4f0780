# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the attacks: an API of their own, so that floods and secrets of one folder do not meet other tests."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.functional.attacks.state import Steady, unchanged
from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess

if TYPE_CHECKING:
    from tests.functional.attacks.world import World


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("attacked")
    process = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite")
    process.conf.write_text("[DEFAULT]\ndebug = true\n" + process.conf.read_text())
    process.start()
    yield process
    process.stop()


@pytest.fixture
def project() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def operator(api: ApiProcess, project: str) -> Operator:
    return Operator(api.url, project=project)


@pytest.fixture
def reader(api: ApiProcess, project: str) -> Operator:
    return Operator(api.url, project=project, roles="reader", user="looks-only")


@pytest.fixture
def strange_project() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def stranger(api: ApiProcess, strange_project: str) -> Operator:
    """A member of another project."""
    return Operator(api.url, project=strange_project, user="stranger")


@pytest.fixture
def steady(api: ApiProcess, project: str, strange_project: str) -> Steady:
    """``with steady():`` what is asked for in the block changes nothing in the store."""
    return functools.partial(unchanged, api, project, strange_project)


@pytest.fixture
def world(operator: Operator) -> World:
    # Imported here: what the API imports warns before pytest knows which warnings are foreign.
    from tests.functional.attacks.world import World

    return World(operator)
