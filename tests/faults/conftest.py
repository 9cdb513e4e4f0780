# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the fault tests: a nursery of API processes, stores of each kind, a project and a history per test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heat_workflow.store import schema
from tests.harness.history import History
from tests.harness.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def store_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """By kind, the URL of a store at the newest schema: one database of each server, a fresh file for SQLite."""
    made: dict[str, str] = {}

    def store(kind: str) -> str:
        if kind == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('faults')}/store.sqlite"
            schema.sync(url)
            return url
        if kind not in made:
            made[kind] = request.getfixturevalue(kind).new_database("faults")
            schema.sync(made[kind])
        return made[kind]

    return store


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store."""
    return str(request.param)


@pytest.fixture
def url(kind: str, store_of: Callable[[str], str]) -> str:
    return store_of(kind)


@pytest.fixture
def project() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path / "history")
    yield history
    history.close()
