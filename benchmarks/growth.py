# SPDX-License-Identifier: Apache-2.0
"""Growth: claims with a million finished and a hundred thousand ready tasks in the store, beside an empty store."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import seeding
from benchmarks.fleet import Agent, now
from benchmarks.table import Row, quantile, show
from heat_workflow.store import schema
from tests.harness.servers import ApiProcess

AGENTS = 64
TURNS = 3000
FINISHED, READY = 1_000_000, 100_000
ROUNDS = 3
GOAL = 1.5


async def drain(port: int, known: list[tuple[str, str]]) -> tuple[float, list[float]]:
    """Tasks a second, and the seconds of each claim, by agents that claim and report in turns."""
    agents = [Agent(port, agent_id, secret) for agent_id, secret in known]
    left, claims = TURNS, []

    async def work(agent: Agent) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = now()
            task: dict[str, Any] | None = await agent.claim(10)
            claims.append(now() - began)
            assert task is not None
            await agent.report(task, None)

    started = now()
    await asyncio.gather(*(work(agent) for agent in agents))
    seconds = now() - started
    for agent in agents:
        agent.close()
    return TURNS / seconds, claims


class Side:
    """One store with its API process."""

    def __init__(self, directory: Path, finished: int, ready: int) -> None:
        url = f"sqlite:///{directory}/store.sqlite"
        directory.mkdir()
        schema.sync(url)
        seeding.definition(url, seeding.DEFINITION)
        self.known = seeding.agents(url, AGENTS, capabilities=["pool"])
        seeding.tasks(url, finished, finished=True)
        seeding.tasks(url, ready, finished=False)
        self.api = ApiProcess(directory, url)
        self.rates: list[float] = []
        self.claims: list[float] = []

    def round(self) -> None:
        rate, claims = asyncio.run(drain(self.api.port, self.known))
        self.rates.append(rate)
        self.claims += claims


def run() -> None:
    with tempfile.TemporaryDirectory() as made:
        empty = Side(Path(made) / "empty", 0, ROUNDS * TURNS)
        full = Side(Path(made) / "full", FINISHED, READY)
        try:
            for side in (empty, full):
                side.api.start()
            for _ in range(ROUNDS):
                for side in (empty, full):
                    side.round()
        finally:
            for side in (empty, full):
                side.api.stop()
    rates = [statistics.median(side.rates) for side in (empty, full)]
    medians = [1000 * quantile(side.claims, 0.5) for side in (empty, full)]
    show(
        f"Claims and reports with {FINISHED} finished and {READY} ready tasks in the store, beside an empty store",
        [
            Row("throughput, empty store", rates[0], "/s"),
            Row("throughput, full store", rates[1], "/s", note=f"empty / full = {rates[0] / rates[1]:.2f}"),
            Row("throughput, empty / full", rates[0] / rates[1], "", GOAL),
            Row("claim p50, empty store", medians[0], "ms"),
            Row("claim p50, full store", medians[1], "ms"),
            Row("claim p50, full / empty", medians[1] / medians[0], "", GOAL),
        ],
    )
