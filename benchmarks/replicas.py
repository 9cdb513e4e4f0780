# SPDX-License-Identifier: Apache-2.0
"""Replicas: two API processes on one PostgreSQL: how soon one wakes a poll that waits at the other."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.fleet import Agent, Boss, now
from benchmarks.table import Row, quantile, show
from benchmarks.turns import replicas
from heat_workflow.store import schema
from tests.harness import databases

WAKES = 200


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
        with replicas(Path(made), url, 2) as both:
            woken = asyncio.run(wakes([replica.port for replica in both]))
    show(
        "Two API processes on one PostgreSQL",
        [
            Row("woken by the other replica, p50", 1000 * quantile(woken, 0.5), "ms"),
            Row("woken by the other replica, p99", 1000 * quantile(woken, 0.99), "ms", 250),
        ],
    )
