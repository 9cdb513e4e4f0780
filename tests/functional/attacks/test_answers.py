# SPDX-License-Identifier: Apache-2.0
"""Answers and facts of guests are bounded (S70), and so is every number that anybody may name (S74)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from heat_workflow.api.guest_schemas import INVENTORY_MOST
from heat_workflow.api.pages import PAGE_MOST
from heat_workflow.store import schema
from tests.harness.callers import DEFINITION, Operator, SimulatedAgent, new_id
from tests.harness.servers import ApiProcess

LARGE = 400_000
ANSWER_MOST = PAGE_MOST + 256 * 1024


def pages(operator: Operator, path: str, noun: str, **params: Any) -> Iterator[list[dict[str, Any]]]:
    """Page by page; none is larger than it may be."""
    while True:
        answer = operator.call("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) < ANSWER_MOST
        yield answer.json()[noun]
        if answer.json()["next_marker"] is None:
            return
        params["marker"] = answer.json()["next_marker"]


def test_s70_a_page_of_tasks_ends_at_a_size(operator: Operator) -> None:
    workflow_id = operator.workflow()
    ids = [operator.task(workflow_id, f"t{n}", server="s", input_values={"x": "a" * LARGE})["id"] for n in range(7)]
    found = list(pages(operator, f"/v1/workflows/{workflow_id}/tasks", "tasks"))
    assert [task["id"] for task in itertools.chain(*found)] == ids
    assert [len(part) for part in found] == [2, 2, 2, 1]
    by_three = list(pages(operator, f"/v1/workflows/{workflow_id}/tasks", "tasks", limit=1))
    assert [len(part) for part in by_three] == [1] * 7


def test_s70_a_page_of_a_fanout_ends_at_a_size(operator: Operator) -> None:
    workflow_id = operator.workflow()
    servers = {f"s{n}": f"server-{n}" for n in range(4)}
    body = {"name": "f", "definition": DEFINITION, "servers": servers, "input_values": {"x": "a" * LARGE}}
    assert operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json=body).status_code == 201
    found = list(pages(operator, f"/v1/workflows/{workflow_id}/tasks", "tasks", fanout="f"))
    assert [len(part) for part in found] == [2, 2]


def test_s70_a_page_of_attempts_ends_at_a_size(operator: Operator) -> None:
    server = new_id()
    workflow_id, agent = operator.workflow(), operator.agent(server=server)
    task = operator.task(workflow_id, server=server, definition={**DEFINITION, "outputs": [{"name": "y"}]})
    path = f"/v1/workflows/{workflow_id}/tasks/{task['id']}"
    for _ in range(6):
        assert agent.report(agent.take(), status="failed", outputs={"y": "b" * 250_000}).status_code == 200
        assert operator.call("POST", f"{path}/rerun").status_code == 202
    found = list(pages(operator, f"{path}/attempts", "attempts"))
    assert len(found) > 1
    assert [attempt["attempt"] for attempt in itertools.chain(*found)] == list(range(1, 7))


def test_s70_a_page_of_agents_ends_at_a_size(operator: Operator) -> None:
    capabilities = [f"{n:04}" + "c" * 250 for n in range(256)]
    ids = [new_id() for _ in range(20)]
    for agent_id in ids:
        body = {"name": "a", "capabilities": capabilities}
        assert operator.call("PUT", f"/v1/agents/{agent_id}", json=body).status_code == 201
    found = list(pages(operator, "/v1/agents", "agents"))
    assert [agent["id"] for agent in itertools.chain(*found)] == ids
    assert len(found) > 1


def test_s70_what_a_guest_tells_of_itself_is_small(operator: Operator) -> None:
    agent = operator.agent(server="s")
    few = {f"k{n}": "v" * 100 for n in range(60)}
    assert agent.hello(inventory=few, previous_nonce=agent.nonce).status_code == 200
    much = {"k": "v" * INVENTORY_MOST}
    refused = agent.hello(inventory=much, previous_nonce=agent.nonce)
    assert refused.status_code == 422
    assert str(INVENTORY_MOST) in refused.text
    assert operator.call("GET", f"/v1/agents/{agent.agent_id}").json()["inventory"] == few


def test_s70_agents_count_in_the_quota(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite")
    api.conf.write_text(api.conf.read_text() + "[quota]\nagents = 2\n")
    api.start()
    try:
        operator, other = Operator(api.url, project="full"), Operator(api.url, project="empty")
        ids = [new_id(), new_id(), new_id()]

        def put(agent_id: str) -> requests.Response:
            return operator.call("PUT", f"/v1/agents/{agent_id}", json={"name": "a"})

        assert [put(one).status_code for one in ids] == [201, 201, 429]
        assert put(ids[0]).status_code == 200, "what is there may be said again"
        assert other.call("PUT", f"/v1/agents/{new_id()}", json={"name": "a"}).status_code == 201
        assert operator.call("DELETE", f"/v1/agents/{ids[0]}").status_code == 204
        assert put(ids[2]).status_code == 201
    finally:
        api.stop()


NUMBERS = [0, 2, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, -1, -(2**31) - 1, -(2**63), 2**200]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"], scope="module")
def each_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("numbers")
    url = f"sqlite:///{directory}/store.sqlite"
    if request.param != "sqlite":
        url = request.getfixturevalue(request.param).new_database("numbers")
        schema.sync(url)
    process = ApiProcess(directory, url)
    process.start()
    yield process
    process.stop()


def guests_numbers(agent: SimulatedAgent, taken: dict[str, Any], n: int) -> dict[str, Callable[[], requests.Response]]:
    """By field, a request in which it is this number."""
    task, entry = f"/tasks/{taken['id']}", {"task_id": taken["id"], "claim_id": taken["claim_id"], "stage": "started"}
    lease = {"attempt": taken["attempt"], "claim_id": taken["claim_id"]}
    failed = {**lease, "status": "failed"}
    info = {"total_bytes": n, "sha256": "0" * 64, "truncated": False}
    chunk = {"n": n, "stream": "stdout", "text": "x"}
    return {
        "heartbeat": lambda: agent.heartbeat({**taken, "attempt": n}),
        "report": lambda: agent.report({**taken, "attempt": n}),
        "report and claim": lambda: agent.report({**taken, "attempt": n}, claim={"claim_id": new_id(), "wait": 0}),
        "claim with reports": lambda: agent.claim(reports=[{**failed, "task_id": taken["id"], "attempt": n}]),
        "log attempt": lambda: agent.call(
            "POST", f"{task}/log", json={**lease, "attempt": n, "chunks": [{**chunk, "n": 0}]}
        ),
        "log chunk": lambda: agent.call("POST", f"{task}/log", json={**lease, "chunks": [chunk]}),
        "journal": lambda: agent.hello(journal=[{**entry, "attempt": n}], previous_nonce=agent.nonce),
        "inventory": lambda: agent.hello(inventory={"n": n}, previous_nonce=agent.nonce),
        "status code": lambda: agent.report({**taken, "claim_id": new_id()}, deploy_status_code=n),
        "stream": lambda: agent.report({**taken, "claim_id": new_id()}, stdout_info=info),
    }


def operators_numbers(operator: Operator, workflow_id: str, agent_id: str, n: int) -> dict[str, requests.Response]:
    path = f"/v1/workflows/{workflow_id}"
    found = {
        f"{where}?{name}": operator.call("GET", where, params={name: n})
        for where, names in {
            "/v1/workflows": ["limit"],
            "/v1/agents": ["limit"],
            f"{path}/tasks": ["limit"],
            f"{path}/events": ["after", "limit"],
            f"/v1/agents/{agent_id}/events": ["after", "limit"],
        }.items()
        for name in names
    }
    for field in ("priority", "timeout", "pickup_timeout", "deadline", "max_attempts", "retry_delay"):
        body = {"name": new_id(), "definition": DEFINITION, "server": "nobody", field: n}
        found[field] = operator.call("POST", f"{path}/tasks", json=body)
    for field in ("max_size", "pause", "max_errors"):
        body = {"name": new_id(), "definition": DEFINITION, "servers": {"a": "nobody"}, "batch": {field: n}}
        found[field] = operator.call("POST", f"{path}/tasks", json=body)
    body = {"name": new_id(), "definition": DEFINITION, "server": "nobody", "input_values": {"x": n}}
    found["value"] = operator.call("POST", f"{path}/tasks", json=body)
    found["join_ttl"] = operator.call("PUT", f"/v1/agents/{new_id()}", json={"name": "a", "join_ttl": n})
    return found


def test_s74_no_number_fails_in_any_store(each_store: ApiProcess) -> None:
    operator = Operator(each_store.url)
    workflow_id, agent = operator.workflow(), operator.agent(server="s")
    failed: dict[str, int] = {}
    for n in NUMBERS:
        operator.task(workflow_id, new_id(), server="s")
        asker = agent if n in NUMBERS[:2] else operator.agent(server="s")
        taken = asker.take()
        for name, ask in guests_numbers(asker, taken, n).items():
            status = ask().status_code
            failed |= {f"{name} {n}": status} if status >= 500 else {}
        asker.report(taken)
        for name, answer in operators_numbers(operator, workflow_id, agent.agent_id, n).items():
            failed |= {f"{name} {n}": answer.status_code} if answer.status_code >= 500 else {}
    assert failed == {}
