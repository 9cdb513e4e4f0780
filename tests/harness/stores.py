# SPDX-License-Identifier: Apache-2.0
"""Harness: stores opened as an API replica opens them, with ears for their wake-ups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from heat_workflow import model
from heat_workflow.store import Store, Tx
from heat_workflow.store.opening import open_store
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
