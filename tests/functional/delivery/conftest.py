# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the agent as it is delivered, and guests that run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heat_workflow.cmd.agent_archive import build_agent
from heat_workflow.releases import Releases
from tests.harness.servers import ApiProcess


@pytest.fixture(scope="session")
def release(api: ApiProcess) -> str:
    """The digest of the agent as it is built from this tree, served by the API."""
    releases = Releases(api.agents)
    chosen = releases.find_current()
    assert chosen is not None
    digest = releases.add(build_agent())
    releases.make_current(chosen)
    return digest


@pytest.fixture
def pyz(tmp_path: Path, api: ApiProcess, release: str) -> Path:
    """The agent's file, installed in a directory of its own."""
    home = tmp_path / "opt"
    home.mkdir(mode=0o755)
    path = home / "heat-workflow-agent.pyz"
    path.write_bytes((api.agents / f"{release}.pyz").read_bytes())
    path.chmod(0o644)
    return path
