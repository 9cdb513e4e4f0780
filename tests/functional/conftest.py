# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one API process on SQLite for this folder, and an operator in a project of its own per test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from heat_workflow.store import schema
from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("api")
    process = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def operator(api: ApiProcess) -> Operator:
    return Operator(api.url, project=uuid.uuid4().hex)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def replicas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ApiProcess, ApiProcess]]:
    """Two API processes on one database of each kind that takes more than one."""
    url = request.getfixturevalue(request.param).new_database(f"replicas_{uuid.uuid4().hex[:8]}")
    schema.sync(url)
    directory: Path = tmp_path_factory.mktemp(request.param)
    one, other = (ApiProcess(directory / name, url) for name in ("one", "other"))
    try:
        one.start()
        other.start()
        yield one, other
    finally:
        one.stop()
        other.stop()


@pytest.fixture
def operators(replicas: tuple[ApiProcess, ApiProcess]) -> tuple[Operator, Operator]:
    """One operator of one project at either replica."""
    project = uuid.uuid4().hex
    one, other = (Operator(replica.url, project=project) for replica in replicas)
    return one, other
