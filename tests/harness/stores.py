# SPDX-License-Identifier: Apache-2.0
"""Harness: stores opened as an API replica opens them, with ears for their wake-ups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from heat_workflow import model
from heat_workflow.store import Asks, Store, Tx, tables
from heat_workflow.store.opening import open_store
from heat_workflow.taskqueue import claiming, reporting
from heat_workflow.taskqueue.claiming import Claimed
from tests.harness import facts


class Ears:
    """What a store's wake-ups have told."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._more = asyncio.Event()

    def wake(self, keys: Mapping[str, int]) -> None:
        self.keys += [key for key, count in keys.items() for _ in range(count)]
        self._more.set()

    async def hear(self, key: str, within: float = 10) -> None:
        """Wait until the key was told."""
        async with asyncio.timeout(within):
            while key not in self.keys:
                self._more.clear()
                await self._more.wait()


class Database:
    """An empty database at the newest schema, and the key ring of its replicas."""

    def __init__(self, url: str, key_file: str) -> None:
        self.url = url
        self.key_file = key_file

    def clear(self) -> None:
        """Delete every row."""
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            for table in tables.metadata.sorted_tables:
                connection.execute(sa.delete(table))
        engine.dispose()

    @contextlib.asynccontextmanager
    async def replica(self) -> AsyncIterator[tuple[Store, Ears]]:
        """One more started store on the database."""
        store, ears = await asyncio.to_thread(open_store, self.url, self.key_file), Ears()
        await store.start(ears.wake)
        try:
            yield store, ears
        finally:
            await store.close()


async def insert(
    store: Store, *tasks: model.Task, workflows: Iterable[model.Workflow] = (), agents: Iterable[model.Agent] = ()
) -> None:
    """Write the facts in one transaction."""

    def write(tx: Tx) -> None:
        for workflow in workflows:
            assert tx.insert_workflow(workflow)
        for agent in agents:
            assert tx.insert_agent(agent)
        tx.insert_tasks(tasks, {task.definition_id: facts.DEFINITION for task in tasks})

    await store.write(write)


async def task_of(store: Store, task_id: str) -> model.Task:
    """The task as it stands."""
    task = await store.read(lambda tx: tx.find_task_any_project(task_id))
    assert task is not None
    return task


async def together(*calls: Any) -> list[Any]:
    """Run the calls at once; their results, exceptions among them."""
    return list(await asyncio.gather(*calls, return_exceptions=True))


async def claim(store: Store, agent_id: str, claim_id: str | None = None, *, alone: bool = False) -> Claimed | None:
    """Claim as an agent does, or in a transaction of its own."""
    claim_id = claim_id or facts.new_id()
    if alone:
        return await store.write(lambda tx: claiming.claim(tx, agent_id, claim_id))
    return await store.turn(Asks(agent_id, claim_id=claim_id), lambda tx: claiming.claim(tx, agent_id, claim_id))


def said(task: model.Task, status: model.TaskState = model.TaskState.SUCCEEDED, **fields: Any) -> model.Report:
    """A report of the lease that the task stands at."""
    assert task.claim_id is not None
    defaults: dict[str, Any] = {
        "deploy_status_code": 0,
        "deploy_stdout": "",
        "deploy_stderr": "",
        "outputs": {},
        "reason": None,
        "digest": "d",
    }
    return model.Report(task.attempt, task.claim_id, status, **{**defaults, **fields})


async def report(
    store: Store, task: model.Task, report: model.Report | None = None, *, alone: bool = False
) -> model.Task:
    """Report as the agent that holds the task does, or in a transaction of its own."""
    agent_id, one = str(task.agent_id), report or said(task)
    if alone:
        return await store.write(lambda tx: reporting.report(tx, agent_id, task.id, one))
    asks = reporting.asks(agent_id, task.id, one)
    return await store.turn(asks, lambda tx: reporting.report(tx, agent_id, task.id, one))
