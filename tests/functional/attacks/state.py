# SPDX-License-Identifier: Apache-2.0
"""State: what the store holds, as one digest, so that "refused" can mean "and nothing changed"."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from typing import Any

from tests.harness.servers import ApiProcess

Steady = Callable[[], contextlib.AbstractContextManager[None]]
# What a refused request may leave behind: when somebody was heard of, and the audit of the refusal itself.
_IGNORED_TABLES = {"agent_event", "news"}
_IGNORED_COLUMNS = {"last_seen_at"}
_GROWING_TABLES = {"event"}  # also where a deadline of another test passes


@contextlib.contextmanager
def opened(api: ApiProcess) -> Iterator[sqlite3.Connection]:
    """The store's file, to be read only, on one snapshot."""
    connection = sqlite3.connect(f"file:{api.directory}/store.sqlite?mode=ro", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()


def rows(api: ApiProcess, query: str, *values: Any) -> list[dict[str, Any]]:
    with opened(api) as connection:
        return [dict(row) for row in connection.execute(query, values)]


def digest(api: ApiProcess, projects: Collection[str]) -> str:
    """SHA-256 of every row of the projects in a canonical form, and of how many rows each table has.

    Other projects hold what earlier tests left behind, and time alone may move that.
    """
    summary = hashlib.sha256()
    with opened(api) as connection:
        names = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        tables = {name: list(connection.execute(f'SELECT * FROM "{name}"')) for name in names - _IGNORED_TABLES}
        theirs = set(projects)
        for name in ("workflow", "task", "agent"):
            theirs |= {row["id"] for row in tables[name] if row["project_id"] in projects}
        for name in sorted(tables):
            lines = [_canonical(row) for row in tables[name] if theirs & {str(value) for value in row}]
            size = len(tables[name]) if name not in _GROWING_TABLES else ""
            summary.update("\n".join([f"{name} {size}", *sorted(lines), ""]).encode())
    return summary.hexdigest()


def _canonical(row: sqlite3.Row) -> str:
    held = {key: row[key] for key in row.keys() if key not in _IGNORED_COLUMNS}  # noqa: SIM118 -- a Row iterates values
    return json.dumps(held, sort_keys=True, default=repr)


@contextlib.contextmanager
def unchanged(api: ApiProcess, *projects: str) -> Iterator[None]:
    """Whatever is asked for in the block changes nothing in the projects, and adds nothing anywhere."""
    before = digest(api, projects)
    yield
    assert digest(api, projects) == before, "a refused request has changed the store"


def audits(api: ApiProcess, agent_id: str) -> list[str]:
    """The types of the agent's security events, in order."""
    found = rows(api, "SELECT type FROM agent_event WHERE agent_id = ? ORDER BY id", agent_id)
    return [str(row["type"]) for row in found]
