# SPDX-License-Identifier: Apache-2.0
"""Harness: the two kinds of caller, an operator and a simulated agent, speaking plain HTTP."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from typing import Any

import requests

DEFINITION = {"group": "script", "config": "#!/bin/sh\ntrue\n", "outputs": [{"name": "y"}]}


def new_id() -> str:
    return str(uuid.uuid4())


class Operator:
    """A user of the operator API in one project."""

    def __init__(self, url: str, project: str = "p1", roles: str = "member,reader", user: str = "u") -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["X-Auth-Token"] = f"{user}:{project}:{roles}"

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=70, **kwargs)

    def workflow(self, **fields: Any) -> str:
        """A new workflow's id."""
        answer = self.call("POST", "/v1/workflows", json={"name": "w", **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def task(self, workflow_id: str, name: str = "t", **fields: Any) -> dict[str, Any]:
        """A new task."""
        body = {"name": name, "definition": DEFINITION, **fields}
        answer = self.call("POST", f"/v1/workflows/{workflow_id}/tasks", json=body)
        assert answer.status_code == 201, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def show(self, task: dict[str, Any], wait: float = 0) -> dict[str, Any]:
        path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}"
        answer = self.call("GET", path, params={"wait": wait} if wait else None)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def register(self, **fields: Any) -> tuple[str, str]:
        """A new agent's id and join token."""
        agent_id = new_id()
        answer = self.call("PUT", f"/v1/agents/{agent_id}", json={"name": "agent", **fields})
        assert answer.status_code == 201, answer.text
        return agent_id, str(answer.json()["join_token"])

    def agent(self, **fields: Any) -> SimulatedAgent:
        """An enrolled agent that has said hello."""
        agent_id, token = self.register(**fields)
        agent = SimulatedAgent(self.url, agent_id, token)
        assert agent.enroll().status_code == 201
        assert agent.hello().status_code == 200
        return agent


class SimulatedAgent:
    """An agent's half of the wire, step by step."""

    def __init__(self, url: str, agent_id: str, join_token: str) -> None:
        self.url = url
        self.agent_id = agent_id
        self.join_token = join_token
        self.secret = secrets.token_urlsafe(32)
        self.nonce = secrets.token_hex(8)
        self.session = requests.Session()
        self.session.trust_env = False

    def at(self, url: str) -> SimulatedAgent:
        """The same agent, speaking to another replica."""
        other = SimulatedAgent(url, self.agent_id, self.join_token)
        other.secret, other.nonce = self.secret, self.nonce
        return other

    @property
    def bearer(self) -> str:
        return f"hwa1.{uuid.UUID(self.agent_id).hex}.{self.secret}"

    def call(self, method: str, path: str, token: str | None = None, **kwargs: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.bearer}"}
        return self.session.request(method, f"{self.url}/agent/v1{path}", headers=headers, timeout=70, **kwargs)

    def enroll(self, token: str | None = None) -> requests.Response:
        body = {"credential_sha256": hashlib.sha256(self.secret.encode()).hexdigest(), "nonce": self.nonce}
        return self.call("POST", "/enroll", token or self.join_token, json=body)

    def hello(self, **fields: Any) -> requests.Response:
        return self.call("POST", "/hello", json={"nonce": self.nonce, **fields})

    def claim(self, wait: float = 0, claim_id: str | None = None, **fields: Any) -> requests.Response:
        return self.call("POST", "/claim", json={"claim_id": claim_id or new_id(), "wait": wait, **fields})

    def take(self, wait: float = 5) -> dict[str, Any]:
        """The next task; there must be one."""
        answer = self.claim(wait)
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()["task"]
        return task

    def heartbeat(self, task: dict[str, Any]) -> requests.Response:
        body = {"attempt": task["attempt"], "claim_id": task["claim_id"]}
        return self.call("POST", f"/tasks/{task['id']}/heartbeat", json=body)

    def report(self, task: dict[str, Any], status: str = "succeeded", **fields: Any) -> requests.Response:
        body = {"attempt": task["attempt"], "claim_id": task["claim_id"], "status": status}
        body["deploy_status_code"] = 0 if status == "succeeded" else 1
        return self.call("PUT", f"/tasks/{task['id']}/report", json={**body, **fields})
