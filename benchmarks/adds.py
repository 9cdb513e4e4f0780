# SPDX-License-Identifier: Apache-2.0
"""Adds: what one task costs that is added alone, to a small workflow and to a large one, on each database."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import seeding
from benchmarks.fleet import Boss
from benchmarks.process import cpu_with_children
from benchmarks.table import Row, show
from benchmarks.turns import replicas
from heat_workflow.store import schema
from tests.harness import databases
from tests.harness.databases import MariaDb, PostgreSql

SMALL, LARGE = 100, 50_000
ADDS = 200
ROUNDS = 5
GOAL = 1.5


async def add(port: int, workflow_id: str, number: int) -> None:
    """Tasks of which each requires an old one by its name, one request each."""
    boss = Boss(port)
    for n in range(ADDS):
        await boss.add(
            workflow_id, [{"name": f"a{number}-{n}", "capabilities": ["nobody"], "requires": [f"t{n % SMALL + 1}"]}]
        )
    boss.close()


@contextlib.contextmanager
def stores(directory: Path) -> Iterator[dict[str, tuple[str, int | None]]]:
    """By the database's name its URL, and the process id of a server."""
    with databases.running(PostgreSql) as postgresql, databases.running(MariaDb) as mariadb:
        yield {
            "SQLite": (f"sqlite:///{directory}/store.sqlite", None),
            "PostgreSQL": (postgresql.new_database("bench"), postgresql.pid),
            "MariaDB": (mariadb.new_database("bench"), mariadb.pid),
        }


def cost(url: str, directory: Path, server: int | None) -> dict[int, float]:
    """By the size of the workflow, milliseconds of CPU of API and database for one task."""
    schema.sync(url)
    seeding.definition(url, seeding.DEFINITION)
    found: dict[int, list[float]] = {SMALL: [], LARGE: []}
    ids = {size: seeding.workflow(url, size) for size in found}
    with replicas(directory, url, 1) as (api,):
        for number in range(ROUNDS):
            for size, costs in found.items():
                pids = [api.pid] if server is None else [api.pid, server]
                before = sum(map(cpu_with_children, pids))
                asyncio.run(add(api.port, ids[size], number))
                costs.append(1000 * (sum(map(cpu_with_children, pids)) - before) / ADDS)
    return {size: statistics.median(costs) for size, costs in found.items()}


def run() -> None:
    table = []
    with tempfile.TemporaryDirectory() as made, stores(Path(made)) as found:
        for name, (url, server) in found.items():
            costs = cost(url, Path(made) / name, server)
            table += [
                Row(f"{name}: to {SMALL} tasks", costs[SMALL], "ms CPU"),
                Row(f"{name}: to {LARGE} tasks", costs[LARGE], "ms CPU"),
                Row(f"{name}: large / small", costs[LARGE] / costs[SMALL], "", GOAL),
            ]
    show("A task added alone: CPU of API and database", table)
