# SPDX-License-Identifier: Apache-2.0
"""Replicas: two API processes on one PostgreSQL, half of the agents at each; how soon one wakes the other's poll."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet import Agent, Boss, now
from benchmarks.table import Row, quantile, show
from heat_workflow.store import schema
from tests.harness import databases
from tests.harness.servers import ApiProcess

AGENTS = 64
TASKS = 3000
BATCH = 500
ROUNDS = 3
WAKES = 200


@contextlib.contextmanager
def two(directory: Path, url: str) -> Iterator[list[int]]:
    """The ports of two API processes on the store, with one key ring."""
    replicas = [ApiProcess(directory / name, url) for name in ("a", "b")]
    (directory / "b" / "keys.json").write_text((directory / "a" / "keys.json").read_text())
    try:
        for replica in replicas:
            replica.start()
        yield [replica.port for replica in replicas]
    finally:
        for replica in replicas:
            replica.stop()


async def throughput(ports: list[int]) -> float:
    """Tasks per second, added in batches at one replica, claimed and reported one by one at both."""
    boss = Boss(ports[0])
    agents = [await Agent.enrolled(ports[n % 2], boss, capabilities=["pool"]) for n in range(AGENTS)]
    workflows = [await boss.workflow() for _ in range(TASKS // BATCH)]

    async def feed() -> None:
        for start, workflow_id in enumerate(workflows):
            await boss.add(workflow_id, [{"name": f"t{start}-{n}", "capabilities": ["pool"]} for n in range(BATCH)])

    started = now()
    await asyncio.gather(feed(), *(a.work(lambda: sum(one.done for one in agents) >= TASKS) for a in agents))
    seconds = now() - started
    for agent in agents:
        agent.close()
    boss.close()
    return TASKS / seconds


async def wakes(ports: list[int]) -> list[float]:
    """Seconds from an add at one replica to the answer of a poll that waits at the other."""
    boss = Boss(ports[0])
    agent = await Agent.enrolled(ports[1], boss, capabilities=["other"])
    workflow_id = await boss.workflow()
    seconds = []
    for n in range(WAKES):
        polling = asyncio.create_task(agent.claim(20))
        await asyncio.sleep(0.02)
        began = now()
        await boss.add(workflow_id, [{"name": f"w{n}", "capabilities": ["other"]}])
        task = await polling
        seconds.append(now() - began)
        assert task is not None
        await agent.report(task, None)
    agent.close()
    boss.close()
    return seconds


def run() -> None:
    with tempfile.TemporaryDirectory() as made, databases.running(databases.PostgreSql) as server:
        url = server.new_database("bench")
        schema.sync(url)
        with two(Path(made), url) as ports:
            rates = [asyncio.run(throughput(ports)) for _ in range(ROUNDS)]
            woken = asyncio.run(wakes(ports))
    show(
        f"Two replicas on one PostgreSQL, {AGENTS} simulated agents, half at each",
        [
            Row("trivial tasks", statistics.median(rates), "/s", 1000, most=False),
            Row("woken by the other replica, p50", 1000 * quantile(woken, 0.5), "ms"),
            Row("woken by the other replica, p99", 1000 * quantile(woken, 0.99), "ms", 250),
        ],
    )
