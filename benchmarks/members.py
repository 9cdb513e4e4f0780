# SPDX-License-Identifier: Apache-2.0
"""Members: simulated agents of a devcloud, one thread each, that finish every task the moment they get it."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import requests

from heat_workflow.client import Client
from tests.harness.callers import SimulatedAgent

WAIT = 20.0  # seconds of one poll


class Members:
    """So many servers with an agent each, inside ``with``."""

    def __init__(self, api: Client, url: str, ca_file: str, count: int) -> None:
        self.servers = {f"n{n}": str(uuid.uuid4()) for n in range(count)}
        self._api = api
        self._url = url
        self._ca_file = ca_file
        self._ids: list[str] = []
        self._ended = threading.Event()
        self._hands = ThreadPoolExecutor(count)

    def __enter__(self) -> Members:
        with ThreadPoolExecutor(8) as joining:
            agents = list(joining.map(self._joined, self.servers.values()))
        for agent in agents:
            self._hands.submit(self._work, agent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for agent_id in self._ids:
            self._api.delete_agent(agent_id)  # ends its poll too
        self._hands.shutdown()

    def _joined(self, server: str) -> SimulatedAgent:
        agent_id = str(uuid.uuid4())
        self._ids.append(agent_id)
        token = self._api.put_agent(agent_id, {"name": "member", "capabilities": [], "server": server})["join_token"]
        agent = SimulatedAgent(self._url, agent_id, str(token))
        agent.session.verify = self._ca_file
        assert agent.enroll().status_code == 201
        assert agent.hello().status_code == 200
        return agent

    def _work(self, agent: SimulatedAgent) -> None:
        while not self._ended.is_set():
            try:
                answer = agent.claim(WAIT)
            except requests.RequestException:
                continue
            if answer.status_code == 200:
                agent.report(answer.json()["task"])
