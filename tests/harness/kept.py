# SPDX-License-Identifier: Apache-2.0
"""Harness: what the database holds of one project, read at one moment."""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from heat_workflow.model import FINISHED, TaskState
from heat_workflow.store import tables

_S = TaskState
Row = Mapping[str, Any]


class Kept:
    """What the database holds of one project."""

    def __init__(self, url: str, project: str) -> None:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            _see_one_moment(connection)

            def read(table: sa.Table, condition: Any) -> list[Row]:
                query = sa.select(table).where(condition).order_by(*table.primary_key.columns)
                return [dict(row) for row in connection.execute(query).mappings()]

            own = sa.select(tables.workflow.c.id).where(tables.workflow.c.project_id == project)
            ours = sa.select(tables.task.c.id).where(tables.task.c.project_id == project)
            self.workflows = {r["id"]: r for r in read(tables.workflow, tables.workflow.c.project_id == project)}
            self.tasks = {r["id"]: r for r in read(tables.task, tables.task.c.project_id == project)}
            attempts = read(tables.attempt, tables.attempt.c.task_id.in_(ours))
            self.requirements = read(tables.requirement, tables.requirement.c.workflow_id.in_(own))
            self.events = _by("workflow_id", read(tables.event, tables.event.c.workflow_id.in_(own)))
        engine.dispose()
        self.attempts = {(row["task_id"], row["attempt"]): row for row in attempts}
        self.attempts_of = _by("task_id", attempts)
        self.moves: dict[str, list[Row]] = {}
        for event in itertools.chain.from_iterable(self.events.values()):
            if event["task_id"] and event["type"] not in ("task-changed",):
                body = {**event, "body": json.loads(event["body"])}
                self.moves.setdefault(event["task_id"], []).append(body)

    def spec(self, task_id: str) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads(self.tasks[task_id]["spec"])
        return spec

    def reopened(self, task_id: str) -> int:
        """How often the finished task was made to run again."""
        states = [event["body"]["state"] for event in self.moves.get(task_id, ())]
        again = {_S.WAITING.value, _S.READY.value}
        ended = {state.value for state in FINISHED}
        return sum(before in ended and after in again for before, after in itertools.pairwise(states))


def _see_one_moment(connection: sa.Connection) -> None:
    """What is read on the connection from now on is the database at one moment."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ")


def _by(key: str, rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return found


def unfinished(url: str, project: str) -> int:
    """How many tasks of the project are not over."""
    engine = sa.create_engine(url)
    c = tables.task.c
    ended = [state.value for state in FINISHED]
    with engine.connect() as connection:
        query = sa.select(sa.func.count()).where(c.project_id == project, c.state.not_in(ended))
        found = int(connection.execute(query).scalar_one())
    engine.dispose()
    return found
