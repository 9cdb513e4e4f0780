# SPDX-License-Identifier: Apache-2.0
"""World: one project with something of everything in it, and a sample request for every route of the API."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import requests

from heat_workflow.api.app import routes
from heat_workflow.api.openapi import AGENT_CALLERS
from heat_workflow.api.routing import Route
from tests.harness.callers import DEFINITION, Operator, SimulatedAgent, new_id
from tests.harness.servers import RELEASED

ROUTES = routes(["operator", "guest"])
OPERATOR_ROUTES = [route for route in ROUTES if route.caller not in ("anybody", *AGENT_CALLERS)]
AGENT_ROUTES = [route for route in ROUTES if route.caller in AGENT_CALLERS]


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


@dataclasses.dataclass(frozen=True)
class Ids:
    """What the placeholders of a path stand for."""

    workflow_id: str
    task_id: str
    agent_id: str
    sha256: str = hashlib.sha256(RELEASED).hexdigest()

    @classmethod
    def unknown(cls) -> Ids:
        return cls(new_id(), new_id(), new_id())


class World:
    """A workflow, a task that an agent holds, the agent; all of one owner."""

    def __init__(self, owner: Operator) -> None:
        self.owner = owner
        server = new_id()
        self.workflow_id = owner.workflow()
        self.task = owner.task(self.workflow_id, server=server)
        self.agent: SimulatedAgent = owner.agent(server=server)
        self.taken = self.agent.take()
        self.ids = Ids(self.workflow_id, str(self.task["id"]), self.agent.agent_id)

    def bodies(self) -> dict[str, Any]:
        """By route, a body that its rightful caller could send."""
        lease = {"attempt": self.taken["attempt"], "claim_id": self.taken["claim_id"]}
        sha256 = hashlib.sha256(b"a secret").hexdigest()
        task = {"name": "t", "definition": DEFINITION}
        return {
            "POST /v1/workflows": {"name": "w"},
            "PUT /v1/workflows/{workflow_id}": {"name": "w"},
            "PATCH /v1/workflows/{workflow_id}": {"name": "renamed"},
            "POST /v1/workflows/{workflow_id}/tasks": {**task, "name": "another"},
            "POST /v1/workflows/{workflow_id}/tasks/actions": {"action": "cancel", "ids": [self.ids.task_id]},
            "PUT /v1/workflows/{workflow_id}/tasks/{task_id}": task,
            "PATCH /v1/workflows/{workflow_id}/tasks/{task_id}": {"priority": 1},
            "PUT /v1/agents/{agent_id}": {"name": "agent"},
            "PATCH /v1/agents/{agent_id}": {"name": "renamed"},
            "POST /v1/agents/{agent_id}/rejoin": {},
            "POST /agent/v1/enroll": {"credential_sha256": sha256, "nonce": "n"},
            "POST /agent/v1/hello": {"nonce": self.agent.nonce},
            "PUT /agent/v1/credential": {"next_sha256": sha256},
            "POST /agent/v1/claim": {"claim_id": new_id()},
            "PUT /agent/v1/tasks/{task_id}/report": {**lease, "status": "succeeded"},
            "POST /agent/v1/tasks/{task_id}/heartbeat": lease,
            "POST /agent/v1/tasks/{task_id}/log": {**lease, "chunks": [{"n": 0, "stream": "stdout", "text": "x"}]},
        }

    def ask(self, route: Route, headers: dict[str, str], ids: Ids | None = None, **kwargs: Any) -> requests.Response:
        """The route's sample request with these headers; ``ids`` other than the world's are asked for just so."""
        if route.body is not None and "data" not in kwargs:
            kwargs["json"] = kwargs.get("json", self.bodies()[name_of(route)])
        url = self.owner.url + filled(route.path, ids or self.ids)
        with requests.Session() as session:
            session.trust_env = False
            return session.request(route.method, url, headers=headers, timeout=60, **kwargs)


def filled(path: str, ids: Ids) -> str:
    return re.sub(r"{(\w+)}", lambda match: str(getattr(ids, match[1])), path)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def operator_headers(operator: Operator) -> dict[str, str]:
    return {"X-Auth-Token": str(operator.session.headers["X-Auth-Token"])}
