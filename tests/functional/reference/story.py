# SPDX-License-Identifier: Apache-2.0
"""The story that the samples of the API reference tell, told to a real API one request after the other.

A sample is a file ``<operation>.json`` in api-ref/source/samples: the request as it is sent, the answer as it came.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import requests

from doc.ext.operations import SAMPLES, operations
from tests.functional.reference.likeness import Names, differences

SECRETS = ("first-secret-of-the-samples-0000000000000-A", "second-secret-of-the-samples-000000000000-B")
WRITING = "WRITE_SAMPLES" in os.environ  # write the answers of this run into the samples
WORKFLOW, TASK = "/v1/workflows/{workflow_id}", "/v1/workflows/{workflow_id}/tasks/{task_id}"
AGENT, HELD = "/v1/agents/{agent_id}", "/agent/v1/tasks/{task_id}"
# In this order each finds what the one before it left.
ORDER = [
    "GET /",
    "GET /healthz",
    "GET /v1/openapi.json",
    f"PUT {AGENT}",
    "GET /agent/v1/agent/{sha256}.pyz",
    "POST /agent/v1/enroll",
    "POST /agent/v1/hello",
    "POST /v1/workflows",
    f"POST {WORKFLOW}/tasks",
    f"PUT {TASK}",
    f"GET {WORKFLOW}/tasks",
    f"GET {TASK}",
    f"PATCH {TASK}",
    f"PATCH {WORKFLOW}",
    f"POST {WORKFLOW}/pause",
    f"POST {WORKFLOW}/resume",
    "GET /v1/workflows",
    "POST /agent/v1/claim",
    f"POST {HELD}/log",
    f"POST {HELD}/heartbeat",
    f"GET {AGENT}",
    "GET /metrics",
    f"PUT {HELD}/report",
    f"GET {TASK}/attempts",
    f"GET {TASK}/log",
    f"GET {WORKFLOW}/graph",
    "the second task fails",
    f"POST {TASK}/rerun",
    f"POST {TASK}/cancel",
    f"POST {WORKFLOW}/tasks/actions",
    f"POST {TASK}/undo",
    f"GET {WORKFLOW}/events",
    f"DELETE {TASK}",
    f"PUT {WORKFLOW}",
    f"POST {WORKFLOW}/cancel",
    f"POST {WORKFLOW}/rerun",
    "what is left succeeds",
    f"POST {WORKFLOW}/undo",
    f"GET {WORKFLOW}",
    f"DELETE {WORKFLOW}",
    "PUT /agent/v1/credential",
    f"PATCH {AGENT}",
    f"POST {AGENT}/drain",
    f"POST {AGENT}/undrain",
    "GET /v1/agents",
    f"POST {AGENT}/quarantine",
    f"POST {AGENT}/rejoin",
    f"GET {AGENT}/events",
    f"DELETE {AGENT}",
]


class Narrator:
    """Sends the samples' requests; ``problems`` is what the answers did otherwise."""

    def __init__(self, url: str, document: dict[str, Any]) -> None:
        self.url = url
        self.names = Names()
        self.problems: list[str] = []
        self.told: dict[str, tuple[Any, Any]] = {}  # operation -> request body, answer body
        self.secret = SECRETS[0]
        self._join_token = ""
        self._operations = operations(document)
        self._by_route = {f"{method} {path}": name for name, (method, path, _) in self._operations.items()}

    def tell(self, what: str) -> None:
        """One line of the order: a route with a sample, or something that happens in between."""
        if what in self._by_route:
            self._tell(self._by_route[what])
        else:
            self._happen(what)

    def _tell(self, name: str) -> None:
        path = SAMPLES / f"{name}.json"
        sample = json.loads(path.read_text())
        request = self.names.made_real(sample["request"])
        answer = self._send(name, request)
        body: Any = answer.json() if answer.headers.get("content-type") == "application/json" else None
        text = answer.text.splitlines() if answer.headers.get("content-type", "").startswith("text/") else None
        if name == "put_v1_agents_agent_id":
            self._join_token = body["join_token"]
        self.told[name] = (request.get("body"), body)
        if WRITING and not self._is_like(name, sample["answer"], answer.status_code, body):
            sample["answer"] = self._written(name, answer.status_code, body, text)
            path.write_text(json.dumps(sample, indent=2, ensure_ascii=False) + "\n")
            return
        given = sample["answer"]
        if answer.status_code != given["status"]:
            self.problems.append(f"{name}: {answer.status_code} {answer.text[:500]}")
        elif body is not None:
            self.problems += differences(given["body"], self._shortened(name, body), self.names, name)
        elif text is not None:
            self.problems += [f"{name}: no line {line!r}" for line in given["text"] if line not in text]

    def _is_like(self, name: str, given: dict[str, Any], status: int, body: Any) -> bool:
        """Whether the sample is good as it is; then it keeps its times."""
        if given["status"] != status or (body is None) is not ("body" not in given):
            return False
        return body is None or not list(
            differences(given["body"], self._shortened(name, body), copy.deepcopy(self.names), name)
        )

    def _written(self, name: str, status: int, body: Any, text: list[str] | None) -> dict[str, Any]:
        answer: dict[str, Any] = {"status": status}
        if body is not None:
            answer["body"] = self.names.as_sample(self._shortened(name, body), name)
        if text is not None:
            answer["text"] = [line for line in text if "heat_workflow_tasks{" in line or "oldest" in line]
        return answer

    def _shortened(self, name: str, body: Any) -> Any:
        """The contract document is long, and stands elsewhere."""
        if name != "get_v1_openapi_json":
            return body
        return {**body, "paths": {}, "components": {}, "info": {**body["info"], "version": "1.0.0"}}

    def _send(self, name: str, request: dict[str, Any]) -> requests.Response:
        method, _, operation = self._operations[name]
        schemes = [scheme for requirement in operation.get("security", []) for scheme in requirement]
        kwargs = {"json": request["body"]} if "body" in request else {}
        with requests.Session() as session:
            session.trust_env = False
            headers = self._headers(schemes[0]) if schemes else {}
            return session.request(method, self.url + request["path"], headers=headers, timeout=60, **kwargs)

    def _headers(self, scheme: str) -> dict[str, str]:
        if scheme == "keystone":
            return {"X-Auth-Token": "u:samples:member,reader"}
        agent_id = self._join_token.split(".")[1]
        token = self._join_token if scheme == "join-token" else f"hwa1.{agent_id}.{self.secret}"
        return {"Authorization": f"Bearer {token}"}

    def _happen(self, what: str) -> None:
        """What comes between two samples: the task that the last report brought fails, or all that is left succeeds."""
        if what == "the second task fails":
            self._report(self.told["put_agent_v1_tasks_task_id_report"][1]["task"], "failed", 4)
            return
        number = 0
        while task := self._claimed(number):
            self._report(task, "succeeded", 0)
            number += 1

    def _claimed(self, number: int) -> Any:
        body = {"claim_id": f"00000000-0000-4000-8000-{number:012d}", "nonce": "5f8a1c0e9b7d"}
        answer = self._send("post_agent_v1_claim", {"path": "/agent/v1/claim", "body": body})
        return answer.json()["task"] if answer.status_code == 200 else None

    def _report(self, task: dict[str, Any], status: str, code: int) -> None:
        body = {"attempt": task["attempt"], "claim_id": task["claim_id"], "status": status, "deploy_status_code": code}
        request = {"path": f"/agent/v1/tasks/{task['id']}/report", "body": body}
        answer = self._send("put_agent_v1_tasks_task_id_report", request)
        assert answer.status_code == 200, answer.text


def sample_files() -> dict[str, Path]:
    return {path.stem: path for path in SAMPLES.glob("*.json")}
