# SPDX-License-Identifier: Apache-2.0
"""Fan-outs: one request that stands for many tasks costs what it weighs, and is refused unmade where it is too much."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heat_workflow.taskqueue import sizes
from tests.harness.callers import DEFINITION, Operator, new_id
from tests.harness.servers import ApiProcess

MIB = 1024 * 1024
LARGE = "A" * (900 * 1024)
SERVERS = {f"n{n}": f"s{n}" for n in range(600)}
SMALL: dict[str, Any] = {"name": "f", "definition": DEFINITION, "servers": SERVERS}
EDGES = [{"from": "r", "how": "e" * 900} for _ in range(900)]
TOO_MUCH: dict[str, dict[str, Any]] = {
    "inputs": SMALL | {"input_values": {"x": LARGE}},
    "hidden inputs": SMALL | {"input_values": {"x": LARGE}, "hidden_inputs": ["x"]},
    "undo": SMALL | {"undo": {"group": "script", "config": LARGE}},
    "edges of Heat": SMALL | {"heat": {"stack_id": "s", "resource": "r", "edges": EDGES}},
    "requirements": SMALL | {"requires": [f"{n:03}{'r' * 500}" for n in range(1000)]},
    "text of four bytes": SMALL | {"input_values": {"x": "\N{PILE OF POO}" * (60 * 1024)}},
    "capabilities": {
        "name": "f",
        "definition": DEFINITION,
        "capabilities": [f"{n:02}{'c' * 253}" for n in range(32)],
        "servers": {f"n{n}": f"s{n}" for n in range(6000)},
    },
}


def cost(api: ApiProcess) -> float:
    """CPU seconds of the API so far."""
    fields = Path(f"/proc/{api.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(api: ApiProcess) -> int:
    """Bytes of memory that the API has."""
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{api.pid}/status").read_text())
    return int(kib) * 1024


def ways(tenant: Operator, workflow_id: str, body: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Every request by which tasks are added."""
    root = f"/v1/workflows/{workflow_id}/tasks"
    yield "POST", root, body
    yield "POST", root, {"tasks": [body]}
    yield "PUT", f"{root}/{new_id()}", body
    yield "POST", "/v1/workflows", {"name": "w", "tasks": [body]}
    yield "PUT", f"/v1/workflows/{new_id()}", {"name": "w", "sealed": True, "tasks": [body]}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_s68_a_fan_out_is_multiplied_and_refused_before_anything_of_it_is_made(api: ApiProcess, what: str) -> None:
    tenant = Operator(api.url, project=uuid.uuid4().hex)
    workflow_id = tenant.workflow()
    before = memory(api)
    for method, path, body in ways(tenant, workflow_id, TOO_MUCH[what]):
        began = cost(api)
        answer = tenant.call(method, path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, "heat-workflow.fan-out")
        assert str(sizes.REQUEST_MOST) in answer.text
        assert cost(api) - began < 1.0  # a request of 1 MiB is read; 550 MiB would take 20 s
    assert memory(api) - before < 64 * MIB
    assert tenant.call("GET", f"/v1/workflows/{workflow_id}/tasks").json()["tasks"] == []
    assert [one["id"] for one in tenant.call("GET", "/v1/workflows").json()["workflows"]] == [workflow_id]


def test_s68_fan_outs_that_come_to_too_much_only_together_are_refused(operator: Operator) -> None:
    share = sizes.REQUEST_MOST // 4 // len(SERVERS)
    workflow_id = operator.workflow()
    tasks = [SMALL | {"name": f"f{n}", "input_values": {"x": "A" * share}} for n in range(5)]
    root = f"/v1/workflows/{workflow_id}/tasks"
    assert operator.call("POST", root, json={"tasks": tasks}).status_code == 413
    assert operator.call("POST", root, json=tasks[0]).status_code == 201


def test_s68_no_answer_about_many_tasks_sends_back_what_was_sent(operator: Operator) -> None:
    body = {
        "name": "f",
        "definition": DEFINITION,
        "servers": dict(list(SERVERS.items())[:50]),
        "input_values": {"x": "A" * 100_000},
        "undo": {"group": "script", "config": "B" * 100_000},
    }
    workflow_id, task_id = operator.workflow(), new_id()
    root = f"/v1/workflows/{workflow_id}/tasks"
    added = operator.call("PUT", f"{root}/{task_id}", json=body)
    again = operator.call("PUT", f"{root}/{task_id}", json=body)
    assert (added.status_code, again.status_code) == (201, 200)
    assert again.json() == added.json()
    assert [task["name"] for task in added.json()["tasks"]] == [f"f/{name}" for name in body["servers"]]
    ids = [task["id"] for task in added.json()["tasks"]]
    agent = operator.agent(server="s0")
    agent.report(agent.take(), outputs={"y": "C" * 100_000})
    cancelled = operator.call("POST", f"{root}/actions", json={"action": "cancel", "ids": ids})
    undone = operator.call("POST", f"{root}/actions", json={"action": "undo", "ids": ids[:1]})
    several = operator.call("POST", root, json={"tasks": [body | {"name": "one"}, body | {"name": "two"}]})
    assert (cancelled.status_code, undone.status_code, several.status_code) == (202, 202, 201)
    assert [task["state"] for task in cancelled.json()["tasks"]] == ["succeeded", *["cancelled"] * 49]
    for answer in (added, again, cancelled, undone, several):
        assert "AAAA" not in answer.text
        assert "BBBB" not in answer.text
        assert "CCCC" not in answer.text
        assert len(answer.content) < 1024 * len(answer.json()["tasks"])
    shown = operator.call("GET", f"{root}/{ids[1]}").json()
    assert (shown["input_values"], shown["undo"]["config"]) == (body["input_values"], "B" * 100_000)
