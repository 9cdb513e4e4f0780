# SPDX-License-Identifier: Apache-2.0
"""Waiting: ten thousand agents that wait for work and poll again; what they cost, and how they come back."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import resource
import tempfile
import uuid
from pathlib import Path

from benchmarks import process, seeding
from benchmarks.fleet import Agent, now
from benchmarks.table import Row, show
from guest_agent.backoff import Backoff
from heat_workflow.store import schema
from tests.harness.servers import ApiProcess

AGENTS = 10_000
PERIOD = 50.0  # seconds an agent's poll waits by default
PERIODS = 2
BACK_MOST = 120.0  # seconds after which those that are not back are counted as lost


class Fleet:
    """Agents that poll for ever, as the real one does after a failure: with its back-off."""

    def __init__(self, port: int, known: list[tuple[str, str]]) -> None:
        self._agents = [Agent(port, agent_id, secret) for agent_id, secret in known]
        self.statuses: collections.Counter[int] = collections.Counter()
        self.served: set[str] = set()  # who had an answer, or has a poll that waits, since it was last emptied
        self.stopping = False

    async def poll(self, agent: Agent, delay: float) -> None:
        await asyncio.sleep(delay)
        backoff = Backoff(random.Random())
        while not self.stopping:
            try:
                status, answer = await self._claim(agent)
            except OSError:
                await asyncio.sleep(backoff.failed(None))
                continue
            self.statuses[status] += 1
            if status == 503:
                await asyncio.sleep(backoff.failed(1))
                continue
            assert status in (200, 204), (status, answer)
            backoff.succeeded()
            self.served.add(agent.agent_id)

    async def _claim(self, agent: Agent) -> tuple[int, object]:
        body = {"claim_id": str(uuid.uuid4()), "wait": PERIOD}
        asked = asyncio.create_task(agent.call("POST", "/agent/v1/claim", body))
        done, _ = await asyncio.wait([asked], timeout=5)
        if not done:
            self.served.add(agent.agent_id)  # it waits
        return await asked

    async def run(self, spread: float) -> list[asyncio.Task[None]]:
        """All of them polling, begun within so many seconds."""
        return [asyncio.create_task(self.poll(agent, random.uniform(0, spread))) for agent in self._agents]

    async def all_served(self, within: float) -> float:
        """Seconds until every agent was served, ``within`` if some were not."""
        started = now()
        while len(self.served) < len(self._agents) and now() - started < within:
            await asyncio.sleep(0.1)
        return now() - started

    def close(self) -> None:
        for agent in self._agents:
            agent.close()


async def measured(api: ApiProcess, known: list[tuple[str, str]]) -> tuple[float, float, float, dict[int, int], int]:
    """KiB an agent, share of a core, seconds until all were back, statuses seen, agents not back."""
    empty = process.memory(api.pid)
    fleet = Fleet(api.port, known)
    polls = await fleet.run(spread=PERIOD)
    await fleet.all_served(PERIOD + BACK_MOST)
    began, used = now(), process.cpu(api.pid)
    await asyncio.sleep(PERIODS * PERIOD)
    share = (process.cpu(api.pid) - used) / (now() - began)
    memory = (process.memory(api.pid) - empty) / len(known)
    await asyncio.to_thread(api.kill)
    fleet.served.clear()
    await asyncio.to_thread(api.start)
    back = await fleet.all_served(BACK_MOST)
    lost = len(known) - len(fleet.served)
    fleet.stopping = True
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    fleet.close()
    return memory, share, back, dict(fleet.statuses), lost


def run() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        url = f"sqlite:///{directory}/store.sqlite"
        schema.sync(url)
        known = seeding.agents(url, AGENTS, capabilities=["pool"])
        api = ApiProcess(directory, url)
        api.start()
        try:
            memory, share, back, statuses, lost = asyncio.run(measured(api, known))
        finally:
            api.stop()
    show(
        f"{AGENTS} agents waiting in one API process for {PERIODS} periods of {PERIOD:g} s; then kill -9 and restart",
        [
            Row("memory of the API for each", memory, "KiB", 25),
            Row("CPU of the API", 100 * share, "%", 10),
            Row("all back after the restart", back, "s", 60, note=f"{lost} not back; answers {json.dumps(statuses)}"),
        ],
    )
