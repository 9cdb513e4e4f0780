# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every test: one devcloud and one server of each kind of database for the whole run."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from devcloud.cloud import DevCloud
    from devcloud.stacks import Stacks
    from tests.harness.databases import DatabaseServer

# Warnings are errors, save those that OpenStack's own libraries give when they are imported.
FOREIGN_WARNINGS = (
    "ignore:'cgi' is deprecated:DeprecationWarning",
    "ignore:eventletutils module is deprecated:DeprecationWarning",
    "ignore:Using fork.. is a bad idea:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(autouse=True)
def handlers_end_with_their_test() -> Iterator[None]:
    """A command under test sets up logging to a standard error that is gone after the test: its handlers go too, or
    every later line of another thread would be an error of the handler's."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCloud]:
    """A real Keystone, Heat and tasks API, with an agent process for every server that a stack makes."""
    # Imported here: the unit tests, which need no cloud, do not wait for OpenStack's libraries.
    from devcloud.cloud import DevCloud

    with DevCloud(tmp_path_factory.mktemp("devcloud")) as cloud:
        yield cloud


@pytest.fixture
def stacks(cloud: DevCloud) -> Iterator[Stacks]:
    """Makes stacks as the demo user; deletes them after the test and waits until they are gone."""
    from devcloud.stacks import Stacks

    stacks = Stacks(cloud.session())
    yield stacks
    stacks.delete_all()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[DatabaseServer]:
    """A PostgreSQL server; a test that kills it starts it again."""
    from tests.harness.databases import PostgreSql, running

    if not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.fail("PostgreSQL's server binaries are missing: run tools/with-packages test", pytrace=False)
    with running(PostgreSql) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[DatabaseServer]:
    """A MariaDB server; a test that kills it starts it again."""
    from tests.harness.databases import MariaDb, running

    if shutil.which("mariadbd") is None and not Path("/usr/sbin/mariadbd").exists():
        pytest.fail("MariaDB's server binaries are missing: run tools/with-packages test", pytrace=False)
    with running(MariaDb) as server:
        yield server
