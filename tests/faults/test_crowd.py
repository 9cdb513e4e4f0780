# SPDX-License-Identifier: Apache-2.0
"""Crowds: many pollers at many tasks (F37), many peers that never come to an end (F38)."""

from __future__ import annotations

import asyncio
import collections
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults import counts
from tests.harness.callers import Operator, SimulatedAgent, new_id
from tests.harness.nursery import Nursery
from tests.harness.replicas import Replica, replicas

HASTY = "tests.faults.sabotage:without_patience"  # half a minute becomes a second and a half
TURN_MOST = 5.0  # seconds for a request among the crowd; a second on a quiet machine


class Line:
    """One kept connection of an agent."""

    def __init__(self, agent: SimulatedAgent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._agent, self._reader, self._writer = agent, reader, writer
        self.took: list[float] = []

    @classmethod
    async def of(cls, agent: SimulatedAgent, port: int) -> Line:
        return cls(agent, *await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        """The good answer; None for nothing."""
        content = json.dumps(body).encode()
        lines = [f"{method} /agent/v1{path} HTTP/1.1", "Host: api", f"Authorization: Bearer {self._agent.bearer}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
        began = time.monotonic()
        self._writer.write("\r\n".join(lines).encode() + content)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        told = await self._reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""
        self.took.append(time.monotonic() - began)
        assert status in (200, 204), told
        found: dict[str, Any] | None = json.loads(told) if status == 200 else None
        return found

    async def work(self) -> list[tuple[str, int]]:
        """Take and report until there is nothing left; what was taken."""
        taken = []
        answer = await self.ask("POST", "/claim", {"claim_id": new_id(), "wait": 0})
        while answer is not None and (task := answer["task"]) is not None:
            taken.append((task["id"], task["attempt"]))
            body = {"attempt": task["attempt"], "claim_id": task["claim_id"], "status": "succeeded"}
            claim = {"claim": {"claim_id": new_id()}}
            answer = await self.ask("PUT", f"/tasks/{task['id']}/report", {**body, **claim})
        self._writer.close()
        await self._writer.wait_closed()
        return taken


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_f37_many_pollers_at_many_tasks_claim_each_once(
    nursery: Nursery, tmp_path: Path, kind: str, url: str, project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with replicas(nursery, tmp_path, url, 1) as [api]:
        operator = Operator(api.url, project=project)
        workflow_id = operator.workflow()
        wanted = [{"name": f"t{n}", "definition": {"group": "script"}, "capabilities": ["pool"]} for n in range(500)]
        added: list[str] = []
        for start in range(0, counts.F37_TASKS[kind], len(wanted)):
            tasks = [{**task, "name": f"{start}-{task['name']}"} for task in wanted]
            answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json={"tasks": tasks})
            added += [task["id"] for task in answer.json()["tasks"]]

        def enrolled(_: int) -> SimulatedAgent:
            mine = Operator(api.url, project=project)
            agent = mine.agent(capabilities=["pool"])
            agent.session.close()
            mine.session.close()
            return agent

        with ThreadPoolExecutor(8) as pool:
            agents = list(pool.map(enrolled, range(counts.F37_POLLERS[kind])))

        async def crowd() -> tuple[list[tuple[str, int]], list[float]]:
            lines = [await Line.of(agent, api.port) for agent in agents]
            taken = await asyncio.gather(*(line.work() for line in lines))
            return [one for some in taken for one in some], [took for line in lines for took in line.took]

        taken, took = asyncio.run(crowd())
        counted = operator.call("GET", f"/v1/workflows/{workflow_id}").json()["counts"]
    assert collections.Counter(taken) == {(task_id, 1): 1 for task_id in added}
    assert counted == {"succeeded": len(added)}
    with capsys.disabled():
        p99 = sorted(took)[int(len(took) * 0.99)]
        print(f"\n{len(added)} tasks, {len(agents)} pollers: turn p50 {statistics.median(took):.3f} s, p99 {p99:.3f} s")


def test_f38_peers_that_never_come_to_an_end_are_let_go_and_hold_nobody_up(
    nursery: Nursery, tmp_path: Path, store_of: Any
) -> None:
    with replicas(nursery, tmp_path, store_of("sqlite"), 1, HASTY) as [api]:
        operator = Operator(api.url)
        agent, workflow_id = operator.agent(server="s"), operator.workflow()
        over = asyncio.run(_besieged(api, lambda n: _turn(operator, agent, workflow_id, n)))
    assert len(over.turns) >= 3
    assert max(over.turns) < TURN_MOST
    assert over.closed == counts.F38_PEERS


class _Siege:
    def __init__(self) -> None:
        self.turns: list[float] = []
        self.closed = 0


async def _besieged(api: Replica, turn: Any) -> _Siege:
    """Peers that send a byte now and then, or nothing, until the API has closed them all; turns of others meanwhile."""
    head = b"POST /v1/workflows HTTP/1.1\r\nHost: api\r\nX-Auth-Token: u:p\r\nContent-Type: application/json\r\n"
    kinds = [(b"", b""), (head, b"X-Slow: x"), (head + b"Content-Length: 5000\r\n\r\n", b'{"name": "')]
    siege = _Siege()

    async def peer(beginning: bytes, drop: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(beginning)
        over = asyncio.ensure_future(reader.read())
        while not over.done():
            if drop:
                writer.write(drop[:1])
            await asyncio.wait([over], timeout=0.2)
        siege.closed += 1
        over.exception()
        writer.close()

    async with asyncio.timeout(60):
        peers = asyncio.gather(*(peer(*kinds[n % 3]) for n in range(counts.F38_PEERS)))
        while not peers.done() or len(siege.turns) < 3:
            siege.turns.append(await asyncio.to_thread(turn, len(siege.turns)))
        await peers
    return siege


def _turn(operator: Operator, agent: SimulatedAgent, workflow_id: str, number: int) -> float:
    began = time.monotonic()
    task = operator.task(workflow_id, f"t{number}", server="s")
    taken = agent.take()
    assert taken["id"] == task["id"]
    assert agent.report(taken).status_code == 200
    return time.monotonic() - began
