# SPDX-License-Identifier: Apache-2.0
"""Q15: every fixed statement finds its rows by a key or an index, whatever else the tables hold."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from heat_workflow.store import schema
from heat_workflow.store.statements import agents, hidden, history, tasks, workflows
from tests.harness.databases import PostgreSql

# Numbers over all agents, of which there are as many as machines; definitions that nobody has, looked for by purge.
WHOLE = {"COUNT_AGENTS": "agent", "UNUSED_DEFINITIONS": "definition"}


def statements() -> Iterator[tuple[str, Any]]:
    """Every fixed statement that looks for rows, by name."""
    for module in (agents, hidden, history, tasks, workflows):
        yield from _of(module)
    yield "find_names", tasks.find_names(3)
    yield "save_task", tasks.save_task("state")
    yield "find_able", agents.find_able(1, by_server=False)
    yield "find_able by server", agents.find_able(1, by_server=True)


def _of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if isinstance(value, (sa.Select, sa.Update, sa.Delete)):
            yield name, value


def text_for(statement: Any, dialect: sa.Dialect) -> str:
    """The statement with a word or a number in place of each parameter."""
    text = re.sub(r"__\[POSTCOMPILE_\w+\]", "'x'", str(statement.compile(dialect=dialect)))
    return re.sub(r"(?<!:):(\w+)", lambda found: _value(found[1]), text)


def _value(name: str) -> str:
    numbers = ("most", "skip", "after", "now", "before", "attempt", "number", "batch", "n", "count", "tasks", "bytes")
    return "1" if name in numbers or name.startswith(("old_attempt", "old_pending", "new_", "param")) else "'x'"


ALL = sorted(statements(), key=lambda named: named[0])


def test_the_statements_are_found() -> None:
    names = {name for name, _ in ALL}
    assert {"FIND_TASK", "FIND_READY", "LIST_DUE", "FIND_CLAIM", "LIST_ENDED", "find_names"} <= names
    assert len(names) > 45


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("plans") / "store.sqlite"
    schema.sync(f"sqlite:///{path}")
    connection = sqlite3.connect(Path(path))
    yield connection
    connection.close()


@pytest.mark.parametrize(("name", "statement"), ALL, ids=[name for name, _ in ALL])
def test_q15_sqlite_scans_no_table(name: str, statement: Any, sqlite_file: sqlite3.Connection) -> None:
    text = text_for(statement, sa.create_engine("sqlite://", paramstyle="named").dialect)
    steps = [row[3] for row in sqlite_file.execute(f"EXPLAIN QUERY PLAN {text}")]
    scans = [step for step in steps if step.startswith("SCAN") and "USING COVERING INDEX task_live" not in step]
    assert steps
    assert [step.split()[1] for step in scans] == ([WHOLE[name]] if name in WHOLE else []), steps


@pytest.fixture(scope="module")
def server(postgresql: PostgreSql) -> Iterator[sa.Connection]:
    url = postgresql.new_database("plans")
    schema.sync(url)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")  # so that it is used only where no index serves
        yield connection
    engine.dispose()


@pytest.mark.parametrize(("name", "statement"), ALL, ids=[name for name, _ in ALL])
def test_q15_postgresql_has_an_index_for_each(name: str, statement: Any, server: sa.Connection) -> None:
    text = text_for(statement, sa.create_engine("postgresql+psycopg://", paramstyle="named").dialect)
    plan = [str(row[0]) for row in server.exec_driver_sql(f"EXPLAIN {text}")]
    scans = [line for line in plan if "Seq Scan on" in line]
    tables = [line.split("Seq Scan on ")[1].split()[0] for line in scans]
    assert plan
    assert set(tables) <= {WHOLE.get(name)}, plan
