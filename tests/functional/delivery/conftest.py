# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the agent as it is delivered, and guests that run it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from heat_workflow.cmd.agent_archive import build_agent
from heat_workflow.releases import Releases
from heat_workflow.shapes import Join
from tests.functional.delivery.bare import BareGuest
from tests.functional.delivery.debian import make_python
from tests.harness.agent_releases import add_beside
from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess


@pytest.fixture(scope="session")
def release(api: ApiProcess) -> str:
    """The digest of the agent as it is built from this tree, served by the API."""
    return add_beside(Releases(api.agents), build_agent())


@pytest.fixture
def pyz(tmp_path: Path, api: ApiProcess, release: str) -> Path:
    """The agent's file, installed in a directory of its own."""
    home = tmp_path / "opt"
    home.mkdir(mode=0o755)
    path = home / "heat-workflow-agent.pyz"
    path.write_bytes((api.agents / f"{release}.pyz").read_bytes())
    path.chmod(0o644)
    return path


@pytest.fixture(scope="session")
def debian_13(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian 13's own python3.13; the tests are skipped, in words, where its packages are not to be had."""
    try:
        return make_python(tmp_path_factory.mktemp("debian-13"))
    except (OSError, StopIteration, subprocess.SubprocessError) as error:
        pytest.skip(f"the packages of Debian 13 are not to be had here, so its Python was not tried: {error}")


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[BareGuest]:
    made = BareGuest(tmp_path)
    yield made
    made.end()


@pytest.fixture
def join(operator: Operator) -> Join:
    """Join data of an agent for server ``s1``."""
    agent_id, token = operator.register(server="s1")
    return {"api_url": operator.url, "agent_id": agent_id, "join_token": token, "ca_pem": None}
