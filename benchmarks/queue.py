# SPDX-License-Identifier: Apache-2.0
"""Queue: throughput and latencies of the tasks API on SQLite, beside the raw durable commit rate of the same file."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fleet import Boss, fleet, now, reached, throughput
from benchmarks.table import Row, quantile, show
from tests.harness.servers import ApiProcess

AGENTS = 64
TASKS = 6000
ROUNDS = 3


def raw_commits(directory: Path, seconds: float = 2.0) -> float:
    """Durable one-row commits per second, as SQLite alone does them here."""
    connection = sqlite3.connect(directory / "raw.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER)")
    done, started = 0, now()
    while now() - started < seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("COMMIT")
        done += 1
    connection.close()
    return done / seconds


async def latency(port: int, rate: float = 200.0, count: int = 2000) -> list[float]:
    """Seconds from the add's request to the claim's answer, at a steady rate."""
    boss = Boss(port)
    agents = await fleet(port, boss, AGENTS)
    workflow_id = await boss.workflow()
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    adders = [Boss(port) for _ in range(8)]

    async def add(number: int) -> None:
        sent[f"l{number}"] = now()
        await adders[number % len(adders)].add(workflow_id, [{"name": f"l{number}", "capabilities": ["pool"]}])

    async def feed() -> None:
        started = now()
        gates = [asyncio.Lock() for _ in adders]

        async def one(number: int) -> None:
            async with gates[number % len(adders)]:
                await add(number)

        jobs = []
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number / rate - now()))
            jobs.append(asyncio.create_task(one(number)))
        await asyncio.gather(*jobs)

    def note(task: dict[str, Any]) -> None:
        seen[task["name"]] = now()

    await asyncio.gather(feed(), *(agent.work(reached(agents, count), note) for agent in agents))
    return [seen[name] - sent[name] for name in seen]


async def chain(port: int, length: int = 100) -> list[float]:
    """Seconds between the report of one task and having the next one, over a chain in one workflow."""
    boss = Boss(port)
    (agent,) = await fleet(port, boss, 1, capabilities=[], server=f"chain-{now()}")
    agents = await boss.must("GET", f"/v1/agents/{agent.agent_id}")
    tasks = [
        {"name": f"c{n}", "server": agents["server"], "requires": [f"c{n - 1}"] if n else []} for n in range(length)
    ]
    await boss.add(await boss.workflow(), tasks)
    task = await agent.claim(5)
    edges: list[float] = []
    while task is not None:
        started = now()
        task = await agent.report(task, next_wait=1 if len(edges) < length - 1 else 0)
        edges.append(now() - started)
    assert len(edges) == length
    return edges[:-1]


async def burst(port: int, count: int = 100) -> float:
    """Seconds from the add of independent tasks to the last one finished, with as many agents waiting."""
    boss = Boss(port)
    agents = await fleet(port, boss, count)
    jobs = [asyncio.create_task(agent.work(reached(agents, count))) for agent in agents]
    await asyncio.sleep(1)
    workflow_id = await boss.workflow()
    started = now()
    await boss.add(workflow_id, [{"name": f"b{n}", "capabilities": ["pool"]} for n in range(count)])
    while not reached(agents, count)():
        await asyncio.sleep(0.001)
    seconds = now() - started
    await asyncio.gather(*jobs)
    return seconds


def run() -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        api = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite")
        api.start()
        try:
            commits, rates = [], []
            for _ in range(ROUNDS):
                commits.append(raw_commits(directory))
                rates.append(asyncio.run(throughput([api.port], AGENTS, TASKS)).rate)
            waits = asyncio.run(latency(api.port))
            edges = asyncio.run(chain(api.port))
            bursts = [asyncio.run(burst(api.port)) for _ in range(ROUNDS)]
        finally:
            api.stop()
    rate, raw = statistics.median(rates), statistics.median(commits)
    show(
        f"The queue on SQLite: one API process, {AGENTS} simulated agents, the load from another process",
        [
            Row("raw durable commits of SQLite", raw, "/s"),
            Row("trivial tasks, goal", rate, "/s", 3000, most=False, note=f"{rate / raw:.2f} of the raw commit rate"),
            Row("trivial tasks, floor", rate, "/s", 1000, most=False),
            Row("added to claimed at 200/s, p50", 1000 * quantile(waits, 0.5), "ms", 5),
            Row("added to claimed at 200/s, p99", 1000 * quantile(waits, 0.99), "ms", 25),
            Row("edge of a chain of 100, p50", 1000 * quantile(edges, 0.5), "ms", 5),
            Row("edge of a chain of 100, p99", 1000 * quantile(edges, 0.99), "ms", 20),
            Row("100 independent tasks, 100 agents", statistics.median(bursts), "s", 0.5),
        ],
    )
