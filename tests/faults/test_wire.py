# SPDX-License-Identifier: Apache-2.0
"""F3, F4, F6: replies are lost, requests are cut in the middle, peers fall silent."""

from __future__ import annotations

import hashlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.faults import counts
from tests.harness.callers import DEFINITION, Operator, SimulatedAgent, new_id
from tests.harness.nursery import Nursery
from tests.harness.proxy import ChaosProxy
from tests.harness.replicas import Replica, replicas

Ask = Callable[[str], requests.Response]


@pytest.fixture(scope="module")
def api(
    nursery: Nursery, store_of: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    with replicas(nursery, tmp_path_factory.mktemp("wire"), store_of("sqlite"), 1) as [replica]:
        yield replica


@pytest.fixture(scope="module")
def proxy(api: Replica) -> Iterator[ChaosProxy]:
    with ChaosProxy(api.port).running() as proxy:
        yield proxy


@pytest.fixture
def operator(api: Replica, project: str) -> Operator:
    return Operator(api.url, project=project)


def asked(method: str, path: str, headers: dict[str, str], body: Any) -> Ask:
    """The request, to be sent to a base URL of choice on a connection of its own."""

    def ask(base: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, base + path, headers=headers, json=body, timeout=30)

    return ask


def as_agent(agent: SimulatedAgent, method: str, path: str, body: Any, token: str = "") -> Ask:
    return asked(method, f"/agent/v1{path}", {"Authorization": f"Bearer {token or agent.bearer}"}, body)


def add(operator: Operator) -> tuple[Ask, Callable[[Any], bool]]:
    task_id, workflow_id = new_id(), new_id()
    body = {"name": "t", "definition": DEFINITION, "workflow": {"id": workflow_id, "name": "w"}}
    path = f"/v1/workflows/{workflow_id}/tasks/{task_id}"
    token = {"X-Auth-Token": str(operator.session.headers["X-Auth-Token"])}
    return asked("PUT", path, token, body), lambda answer: bool(answer.json()["id"] == task_id)


def enroll(operator: Operator) -> tuple[Ask, Callable[[Any], bool]]:
    agent_id, token = operator.register()
    agent = SimulatedAgent(operator.url, agent_id, token)
    body = {"credential_sha256": hashlib.sha256(agent.secret.encode()).hexdigest(), "nonce": "n"}
    return as_agent(agent, "POST", "/enroll", body, token), lambda answer: agent.hello().status_code == 200


def claim(operator: Operator) -> tuple[Ask, Callable[[Any], bool]]:
    server, claim_id = new_id(), new_id()
    agent = operator.agent(server=server)
    task = operator.task(operator.workflow(), server=server)

    def same(answer: requests.Response) -> bool:
        given = answer.json()["task"]
        return (given["id"], given["attempt"], given["claim_id"]) == (task["id"], 1, claim_id)

    return as_agent(agent, "POST", "/claim", {"claim_id": claim_id}), same


def report(operator: Operator) -> tuple[Ask, Callable[[Any], bool]]:
    server = new_id()
    agent = operator.agent(server=server)
    task = operator.task(operator.workflow(), server=server)
    taken = agent.take()
    body = {"attempt": 1, "claim_id": taken["claim_id"], "status": "succeeded", "outputs": {"y": "once"}}

    def once(answer: requests.Response) -> bool:
        shown = operator.show(task)
        return (answer.json()["state"], shown["outputs"], shown["attempt"]) == ("succeeded", {"y": "once"}, 1)

    return as_agent(agent, "PUT", f"/tasks/{taken['id']}/report", body), once


def rotate(operator: Operator) -> tuple[Ask, Callable[[Any], bool]]:
    agent = operator.agent()
    fresh = secrets.token_urlsafe(32)
    body = {"next_sha256": hashlib.sha256(fresh.encode()).hexdigest()}
    ask = as_agent(agent, "PUT", "/credential", body)

    def works(_answer: requests.Response) -> bool:
        agent.secret = fresh
        return agent.hello().status_code == 200

    return ask, works


@pytest.mark.parametrize("verb", [add, enroll, claim, report, rotate])
@pytest.mark.parametrize("where", ["nothing", "one byte", "half", "all but one byte"])
def test_f3_a_lost_reply_is_given_again(
    verb: Callable[[Operator], tuple[Ask, Callable[[Any], bool]]], where: str, operator: Operator, proxy: ChaosProxy
) -> None:
    ask, _ = verb(operator)
    assert ask(proxy.url).status_code < 300
    length = proxy.answered
    after = {"nothing": 0, "one byte": 1, "half": length // 2, "all but one byte": length - 1}[where]
    for _ in range(counts.F3_ROUNDS):
        ask, right = verb(operator)
        cuts = proxy.cuts
        proxy.cut_answer(after)
        assert not _whole(ask, proxy)
        assert proxy.cuts == cuts + 1
        again = ask(operator.url)
        assert again.status_code == 200, again.text
        assert right(again)


def _whole(ask: Ask, proxy: ChaosProxy) -> bool:
    """Whether the answer came in full. One that ends among its headers looks like an empty one to the client."""
    try:
        return bool(ask(proxy.url).content)
    except requests.RequestException:
        return False


def test_f4_a_request_cut_in_its_body_changes_nothing(operator: Operator, proxy: ChaosProxy, api: Replica) -> None:
    definition = {**DEFINITION, "config": "#" * (counts.F4_CUTS + 1) * 1024}
    tasks = [{"name": "t", "definition": definition}]
    token = {"X-Auth-Token": str(operator.session.headers["X-Auth-Token"])}
    ask = asked("POST", "/v1/workflows", token, {"name": "w", "tasks": tasks})
    logged = api.log.stat().st_size
    for kibibyte in range(1, counts.F4_CUTS + 1):
        proxy.cut_request(kibibyte * 1024)
        with pytest.raises(requests.RequestException):
            ask(proxy.url)
    assert operator.call("GET", "/v1/workflows").json()["workflows"] == []
    assert "Traceback" not in api.log.read_text()[logged:]
    assert ask(proxy.url).status_code == 201


def test_f6_silent_peers_are_let_go_and_hold_nobody_up(operator: Operator, api: Replica) -> None:
    agents = [operator.agent(server=new_id()) for _ in range(counts.F6_PEERS // 4)]
    claim_ids = [new_id() for _ in agents]
    head = b"POST /v1/workflows HTTP/1.1\r\nHost: api\r\nX-Auth-Token: u:p1:member\r\n"
    beginnings = [b"", head, head + b'Content-Length: 99\r\n\r\n{"name"']
    peers = [_peer(api, beginnings[n % 3]) for n in range(counts.F6_PEERS - len(agents))]
    # Agents that sent a whole claim and fell silent: the answer has nobody to read it.
    lost = [_peer(api, _claim(agent, claim_id)) for agent, claim_id in zip(agents, claim_ids, strict=True)]
    slowest = 0.0
    began = time.monotonic()
    for agent, claim_id in zip(agents, claim_ids, strict=True):
        before = time.monotonic()
        task = operator.task(operator.workflow(), server=_server(operator, agent))
        answer = agent.claim(claim_id=claim_id, wait=5)
        assert answer.json()["task"]["id"] == task["id"]
        slowest = max(slowest, time.monotonic() - before)
    assert slowest < 2
    for peer in peers:
        peer.settimeout(max(0.1, began + 45 - time.monotonic()))
        while peer.recv(65536):
            pass
        peer.close()
    assert time.monotonic() - began <= 45
    for peer in lost:
        peer.close()


def _peer(api: Replica, said: bytes) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", api.port))
    peer.sendall(said)
    return peer


def _claim(agent: SimulatedAgent, claim_id: str) -> bytes:
    body = f'{{"claim_id": "{claim_id}", "wait": 40}}'
    head = f"POST /agent/v1/claim HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {agent.bearer}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _server(operator: Operator, agent: SimulatedAgent) -> str:
    return str(operator.call("GET", f"/v1/agents/{agent.agent_id}").json()["server"])
