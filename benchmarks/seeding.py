# SPDX-License-Identifier: Apache-2.0
"""Seeding: agents and tasks written straight into a store, where making them by requests would take hours."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import secrets
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store import rows, tables
from heat_workflow.taskqueue import building
from tests.harness import facts

PROJECT = "bench"
_AT_ONCE = 10_000
_WORKFLOW_SIZE = 1000


def agents(url: str, count: int, **fields: Any) -> list[tuple[str, str]]:
    """So many enrolled agents: id and secret of each."""
    made = [(str(uuid.uuid4()), secrets.token_urlsafe(32)) for _ in range(count)]
    now = time.time()
    _insert(
        url,
        tables.agent,
        (
            rows.agent_row(
                facts.agent(
                    id=agent_id,
                    project_id=PROJECT,
                    cred_hash=hashlib.sha256(secret.encode()).hexdigest(),
                    cred_made_at=now,
                    created_at=now,
                    **fields,
                )
            )
            for agent_id, secret in made
        ),
    )
    return made


def tasks(url: str, count: int, *, finished: bool) -> None:
    """So many tasks for agents with the capability pool, in workflows of a thousand; with their attempts, if they are
    over. What is left out is their events: nothing that is measured reads them."""
    now = time.time()
    for start in range(0, count, _WORKFLOW_SIZE * 100):
        workflows = [facts.workflow(project_id=PROJECT, created_at=now) for _ in range(100)]
        _insert(url, tables.workflow, (rows.workflow_row(workflow) for workflow in workflows))
        size = min(_WORKFLOW_SIZE * 100, count - start)
        state = model.TaskState.SUCCEEDED if finished else model.TaskState.READY
        made = [_task(workflows[n // _WORKFLOW_SIZE], n % _WORKFLOW_SIZE + 1, now, state) for n in range(size)]
        _insert(url, tables.task, (rows.task_row(task) for task in made))
        if finished:
            _insert(url, tables.attempt, (rows.attempt_row(_attempt(task)) for task in made))


def workflow(url: str, count: int) -> str:
    """One workflow of so many tasks that are over; its id."""
    now = time.time()
    made = facts.workflow(project_id=PROJECT, created_at=now)
    _insert(url, tables.workflow, [rows.workflow_row(made)])
    tasks = (_task(made, n + 1, now, model.TaskState.SUCCEEDED) for n in range(count))
    _insert(url, tables.task, (rows.task_row(task) for task in tasks))
    return made.id


def definition(url: str, body: Mapping[str, Any]) -> None:
    """The definition that the tasks have."""
    row = {"project_id": PROJECT, "id": building.digest(body), "body": rows.dump(body)}
    _insert(url, tables.definition, [row])


def _task(workflow: model.Workflow, seq: int, now: float, state: model.TaskState) -> model.Task:
    task = facts.task(
        workflow,
        seq=seq,
        name=f"t{seq}",
        capabilities=["pool"],
        route="pool",
        state=state,
        definition_id=_DEFINITION_ID,
        created_at=now,
        ready_at=now,
    )
    if state is model.TaskState.READY:
        return task
    return dataclasses.replace(task, attempt=1, attempts_left=0, finished_at=now, started_at=now)


def _attempt(task: model.Task) -> model.Attempt:
    return facts.attempt(task, finished_at=task.finished_at, result="succeeded", deploy_status_code=0)


DEFINITION = {"group": "script", "config": "#!/bin/sh\ntrue\n", "options": {}, "inputs": [], "outputs": []}
_DEFINITION_ID = building.digest(DEFINITION)


def _insert(url: str, table: sa.Table, new: Iterable[Mapping[str, Any]]) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for chunk in _chunks(new):
            connection.execute(sa.insert(table), chunk)
    engine.dispose()


def _chunks(new: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    left = iter(new)
    while chunk := list(itertools.islice(left, _AT_ONCE)):
        yield chunk
