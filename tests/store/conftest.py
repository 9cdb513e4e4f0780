# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the conformance suite: a started store on each database, and a loop that runs ``async`` tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator

import pytest

from heat_workflow.store import Store, schema
from heat_workflow.store.keyring import KeyRing
from tests.harness.stores import Database, Ears


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async`` test on the session's loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    runner: asyncio.Runner = pyfuncitem._request.getfixturevalue("runner")
    names = pyfuncitem._fixtureinfo.argnames
    runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A key ring."""
    path = str(tmp_path_factory.mktemp("keys") / "keys.json")
    KeyRing().with_new_key().save(path)
    return path


@pytest.fixture(scope="session")
def database_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, key_file: str
) -> Callable[[str], Database]:
    """By kind, one database at the newest schema, emptied at each call."""
    made: dict[str, Database] = {}

    def database(kind: str) -> Database:
        if kind not in made:
            if kind == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('store')}/store.sqlite"
            else:
                url = request.getfixturevalue(kind).new_database("conformance")
            schema.sync(url)
            made[kind] = Database(url, key_file)
        made[kind].clear()
        return made[kind]

    return database


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def empty(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Database:
    """A database with no rows in it, one of each kind."""
    return database_of(request.param)


@pytest.fixture(params=["postgresql", "mariadb"])
def shared(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Database:
    """An empty database that takes more than one replica, one of each kind."""
    return database_of(request.param)


@pytest.fixture
def started(empty: Database, runner: asyncio.Runner) -> Iterator[tuple[Store, Ears]]:
    context = empty.replica()
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def store(started: tuple[Store, Ears]) -> Store:
    """A started store on an empty database."""
    return started[0]


@pytest.fixture
def ears(started: tuple[Store, Ears]) -> Ears:
    """What the store's wake-ups have told."""
    return started[1]
