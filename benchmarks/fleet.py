# SPDX-License-Identifier: Apache-2.0
"""Fleet: many simulated agents and one operator in one event loop, speaking plain HTTP/1.1 over kept connections.

A client library would cost more than the server that is measured, so requests are written by hand.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

DEFINITION = {"group": "script", "config": "#!/bin/sh\ntrue\n", "outputs": [{"name": "y"}]}


class Connection:
    """One kept connection; a request at a time."""

    def __init__(self, port: int, header: str) -> None:
        self._port = port
        self._header = header
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of the answer. Raises OSError when the server goes away."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{self._header}\r\nContent-Length: {len(text)}\r\n"
        kind = "Content-Type: application/json\r\n\r\n" if text else "\r\n"
        try:
            self._writer.write(f"{head}{kind}".encode() + text)
            return await self._answer(self._reader)
        except (OSError, EOFError) as exc:
            self.close()
            raise OSError("the server went away") from exc

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, Any]:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        text = await reader.readexactly(length) if length else b""
        return status, json.loads(text) if text else None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Boss(Connection):
    """The operator."""

    def __init__(self, port: int, project: str = "bench") -> None:
        super().__init__(port, f"X-Auth-Token: bench:{project}:member,reader,admin")

    async def must(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        assert status < 300, (method, path, status, answer)
        return answer

    async def workflow(self, **fields: Any) -> str:
        return str((await self.must("POST", "/v1/workflows", {"name": "w", **fields}))["id"])

    async def add(self, workflow_id: str, tasks: list[dict[str, Any]]) -> Any:
        body = {"tasks": [{"definition": DEFINITION, **task} for task in tasks]}
        return await self.must("POST", f"/v1/workflows/{workflow_id}/tasks", body)


class Agent(Connection):
    """A simulated agent that finishes each task the moment it gets it."""

    def __init__(self, port: int, agent_id: str, secret: str) -> None:
        super().__init__(port, f"Authorization: Bearer hwa1.{uuid.UUID(agent_id).hex}.{secret}")
        self.agent_id = agent_id
        self.done = 0
        self.put_off = 0  # answers 503: the same request was sent again

    @classmethod
    async def enrolled(cls, port: int, boss: Boss, **fields: Any) -> Agent:
        agent_id, secret = str(uuid.uuid4()), secrets.token_urlsafe(32)
        registered = await boss.must("PUT", f"/v1/agents/{agent_id}", {"name": "sim", **fields})
        joining = Connection(port, f"Authorization: Bearer {registered['join_token']}")
        digest = hashlib.sha256(secret.encode()).hexdigest()
        status, _ = await joining.call("POST", "/agent/v1/enroll", {"credential_sha256": digest, "nonce": "n"})
        assert status == 201, status
        joining.close()
        return cls(port, agent_id, secret)

    async def _insist(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """As ``call``, again while the answer is 503, which is counted."""
        status, answer = await self.call(method, path, body)
        while status == 503:
            self.put_off += 1
            await asyncio.sleep(0.05)
            status, answer = await self.call(method, path, body)
        return status, answer

    async def claim(self, wait: float) -> dict[str, Any] | None:
        body = {"claim_id": str(uuid.uuid4()), "wait": wait}
        status, answer = await self._insist("POST", "/agent/v1/claim", body)
        return answer["task"] if status == 200 else None

    async def report(self, task: dict[str, Any], next_wait: float | None = 0) -> dict[str, Any] | None:
        """Report success and claim the next in the same request."""
        body: dict[str, Any] = {"attempt": task["attempt"], "claim_id": task["claim_id"], "status": "succeeded"}
        if next_wait is not None:
            body["claim"] = {"claim_id": str(uuid.uuid4()), "wait": next_wait}
        status, answer = await self._insist("PUT", f"/agent/v1/tasks/{task['id']}/report", body)
        assert status == 200, (status, answer)
        self.done += 1
        following: dict[str, Any] | None = answer["task"]
        return following

    async def work(self, enough: Callable[[], bool], seen: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Take and finish tasks until ``enough``."""
        task = None
        while not enough():
            task = task or await self.claim(2)
            if task is not None:
                if seen is not None:
                    seen(task)
                task = await self.report(task)


async def gathered(jobs: list[Awaitable[Any]], at_once: int = 64) -> list[Any]:
    """Run the jobs, so many at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(job: Awaitable[Any]) -> Any:
        async with gate:
            return await job

    return list(await asyncio.gather(*(one(job) for job in jobs)))


async def fleet(port: int, boss: Boss, count: int, **fields: Any) -> list[Agent]:
    """So many enrolled agents, each with the capability ``pool`` or with those given."""
    granted = {"capabilities": ["pool"], **fields}
    agents: list[Agent] = []
    for _ in range(count):
        agents.append(await Agent.enrolled(port, boss, **granted))
    return agents


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast a fleet finished its tasks."""

    rate: float  # tasks per second
    put_off: int  # answers 503 on the way


async def throughput(ports: Sequence[int], agents: int, tasks: int, batch: int = 500, workflows: int = 1) -> Pace:
    """Tasks added in batches at the first API process, claimed and reported one by one by agents at all of them."""
    boss = Boss(ports[0])
    crew = [await Agent.enrolled(ports[n % len(ports)], boss, capabilities=["pool"]) for n in range(agents)]
    ids = [await boss.workflow() for _ in range(workflows)]

    async def feed() -> None:
        for turn, start in enumerate(range(0, tasks, batch)):
            names = [{"name": f"t{start + n}", "capabilities": ["pool"]} for n in range(min(batch, tasks - start))]
            await boss.add(ids[turn % workflows], names)

    started = now()
    await asyncio.gather(feed(), *(agent.work(reached(crew, tasks)) for agent in crew))
    seconds = now() - started
    for connection in (boss, *crew):
        connection.close()
    return Pace(tasks / seconds, sum(agent.put_off for agent in crew))


def reached(agents: Sequence[Agent], tasks: int) -> Callable[[], bool]:
    """Whether the agents together have finished so many tasks."""
    return lambda: sum(agent.done for agent in agents) >= tasks


def now() -> float:
    return time.perf_counter()
