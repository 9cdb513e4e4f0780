# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one API process on SQLite for this folder, and an operator in a project of its own per test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

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
