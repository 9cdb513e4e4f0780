# SPDX-License-Identifier: Apache-2.0
"""Floods: an agent that polls, reports or logs without end costs itself its place and nobody else theirs."""

from __future__ import annotations

import asyncio
import collections
import json
import time
from typing import Any

from tests.functional.attacks.state import opened
from tests.functional.attacks.world import World
from tests.harness.callers import Operator, new_id
from tests.harness.servers import ApiProcess

POLLS = 1000
REQUESTS = 3000
CONNECTIONS = 8


def request(method: str, path: str, token: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    lines = [f"{method} /agent/v1{path} HTTP/1.1", "Host: api", f"Authorization: Bearer {token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


class Line:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, api: ApiProcess) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", api.port))

    async def ask(self, asked: bytes) -> int:
        self._writer.write(asked)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if length:
            await self._reader.readexactly(int(length[0].partition(b":")[2]))
        return int(head[9:12])

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def flood(api: ApiProcess, asked: list[bytes]) -> collections.Counter[int]:
    """All of it over a few connections, as fast as it goes; how often each status came."""
    left, got = iter(asked), collections.Counter[int]()

    async def work() -> None:
        line = await Line.to(api)
        for one in left:
            got[await line.ask(one)] += 1
        await line.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return got


def store_bytes(api: ApiProcess) -> int:
    with opened(api) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)


def test_s52_of_a_thousand_polls_one_is_kept(api: ApiProcess, operator: Operator) -> None:
    agent = operator.agent(server="s")
    workflow_id = operator.workflow()

    async def attack() -> tuple[list[int], int]:
        lines = [await Line.to(api) for _ in range(POLLS)]
        asked = [request("POST", "/claim", agent.bearer, {"claim_id": new_id(), "wait": 40}) for _ in lines]
        polls = {asyncio.ensure_future(line.ask(one)) for line, one in zip(lines, asked)}
        refused: list[int] = []
        while len(polls) > 1:
            done, polls = await asyncio.wait(polls, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert done, f"{len(polls)} polls are kept"
            refused += [poll.result() for poll in done]
        await asyncio.to_thread(operator.task, workflow_id, server="s")
        kept = await asyncio.wait_for(polls.pop(), 10)
        await asyncio.gather(*(line.close() for line in lines))
        return refused, kept

    refused, kept = asyncio.run(attack())
    assert len(refused) == POLLS - 1
    assert set(refused) <= {409, 429}
    assert refused.count(409) < 50, "an agent beyond its rate does not even end its own poll"
    assert kept == 200


def test_s52_claims_that_get_work_are_not_limited(operator: Operator) -> None:
    workflow_id, server = operator.workflow(), new_id()
    tasks = [{"name": f"t{n}", "definition": {"group": "script"}, "server": server} for n in range(60)]
    assert operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json={"tasks": tasks}).status_code == 201
    agent = operator.agent(server=server)
    for _ in range(30):
        assert agent.report(agent.take(wait=0)).status_code == 200
    task = agent.take(wait=0)
    for _ in range(29):
        task = agent.report(task, claim={"claim_id": new_id()}).json()["task"]
    assert agent.report(task).status_code == 200


def test_decision_16_an_empty_claim_a_second_and_a_poll_that_waits_are_served(operator: Operator) -> None:
    agent = operator.agent(server="s")
    statuses = [agent.claim().status_code for _ in range(50)]
    assert statuses[:20] == [204] * 20
    assert 429 in statuses
    refused = agent.claim(wait=5)
    assert (refused.status_code, int(refused.headers["Retry-After"]) >= 1) == (429, True)
    time.sleep(1.1)
    assert agent.claim(wait=1.1).status_code == 204
    operator.task(operator.workflow(), server="s")
    assert agent.claim().status_code == 200, "work is handed out at any rate"


def test_heartbeats_come_every_two_seconds_at_most(world: World) -> None:
    statuses = [world.agent.heartbeat(world.taken).status_code for _ in range(40)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses


def test_s53_log_chunks_without_end_are_slowed_down_and_bounded(api: ApiProcess, world: World) -> None:
    before = store_bytes(api)
    lease = {"attempt": world.taken["attempt"], "claim_id": world.taken["claim_id"]}
    path = f"/tasks/{world.ids.task_id}/log"
    chunks = [{"n": n, "stream": "stdout", "text": "x" * 4096} for n in range(REQUESTS)]
    asked = [request("POST", path, world.agent.bearer, {**lease, "chunks": [chunk]}) for chunk in chunks]
    got = asyncio.run(flood(api, asked))
    assert got[429] > REQUESTS * 0.9
    assert store_bytes(api) - before < 2 * 1024 * 1024


def test_s53_refused_reports_without_end_are_slowed_down_and_leave_nothing(api: ApiProcess, world: World) -> None:
    before = store_bytes(api)
    wrong = {"attempt": 1, "claim_id": new_id(), "status": "succeeded", "deploy_stdout": "x" * 4096}
    path = f"/tasks/{world.ids.task_id}/report"
    got = asyncio.run(flood(api, [request("PUT", path, world.agent.bearer, wrong)] * REQUESTS))
    assert got[429] > REQUESTS * 0.9
    assert set(got) == {409, 429}
    assert store_bytes(api) - before < 2 * 1024 * 1024


def test_s53_one_noisy_agent_does_not_silence_another(operator: Operator, world: World) -> None:
    for _ in range(120):
        world.agent.report({**world.taken, "attempt": 7})
    assert world.agent.report(world.taken).status_code == 429
    operator.task(operator.workflow(), server="quiet")
    quiet = operator.agent(server="quiet")
    assert quiet.report(quiet.take()).status_code == 200
