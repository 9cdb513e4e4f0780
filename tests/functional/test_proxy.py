# SPDX-License-Identifier: Apache-2.0
"""The API behind nginx, on the configuration that etc/nginx has: TLS, the guests' side, addresses, streams, waits."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcloud.settings import ensure_settings
from heat_workflow import conf
from heat_workflow.api.limits import WRONG_JOIN_TOKENS
from tests.harness.callers import DEFINITION, Operator, new_id
from tests.harness.proxies import ETC, Nginx
from tests.harness.servers import ApiProcess


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("behind")
    api = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite", {"trusted_proxies": "127.0.0.1"})
    api.start()
    yield api
    api.stop()


@pytest.fixture(scope="module")
def proxy(behind: ApiProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("nginx")
    nginx = Nginx(directory, behind.port, ensure_settings(directory, None))
    nginx.start()
    yield nginx
    nginx.stop()


def ask(
    proxy: Nginx,
    port: int,
    method: str,
    path: str,
    headers: dict[str, str],
    body: Any = None,
    source: str = "127.0.0.1",
) -> tuple[int, Any]:
    """Status and JSON of the answer."""
    connection = proxy.connect(port, source)
    try:
        content = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), {**headers, **content})
        answer = connection.getresponse()
        text = answer.read()
        told = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if told and text else None
    finally:
        connection.close()


def token_of(operator: Operator) -> dict[str, str]:
    return {"X-Auth-Token": str(operator.session.headers["X-Auth-Token"])}


def test_operators_reach_the_api_over_tls_and_guests_their_side_alone(behind: ApiProcess, proxy: Nginx) -> None:
    operator = Operator(behind.url, project="tls")
    assert ask(proxy, proxy.operator_port, "GET", "/v1/workflows", token_of(operator))[0] == 200
    agent = operator.agent(server="s")
    own = {"Authorization": f"Bearer {agent.bearer}"}
    claim = {"claim_id": new_id(), "wait": 1}
    assert ask(proxy, proxy.guest_port, "POST", "/agent/v1/claim", own, claim)[0] == 204
    for path in ("/v1/workflows", "/metrics", "/", "/agent/v2/claim"):
        assert ask(proxy, proxy.guest_port, "GET", path, token_of(operator))[0] == 404


def guess(proxy: Nginx, source: str, headers: dict[str, str] | None = None) -> int:
    """The answer to a wrong join token, of another agent each time."""
    wrong = {"Authorization": f"Bearer hwj1.{new_id().replace('-', '')}.{'x' * 43}", **(headers or {})}
    body = {"credential_sha256": "0" * 64, "nonce": "n"}
    return ask(proxy, proxy.guest_port, "POST", "/agent/v1/enroll", wrong, body, source)[0]


def test_s17_guesses_are_counted_by_the_guests_own_address_whatever_it_says(proxy: Nginx) -> None:
    statuses = [guess(proxy, "127.0.0.2") for _ in range(WRONG_JOIN_TOKENS.burst + 1)]
    assert statuses == [401] * WRONG_JOIN_TOKENS.burst + [429]
    assert guess(proxy, "127.0.0.3") == 401
    assert guess(proxy, "127.0.0.2", {"X-Forwarded-For": "192.0.2.7"}) == 429


def test_events_arrive_as_they_happen(behind: ApiProcess, proxy: Nginx) -> None:
    operator = Operator(behind.url, project="stream")
    workflow_id = operator.workflow()
    connection = proxy.connect(proxy.operator_port)
    headers = {**token_of(operator), "Accept": "text/event-stream"}
    connection.request("GET", f"/v1/workflows/{workflow_id}/events", headers=headers)
    stream = connection.getresponse()
    assert b"workflow-active" in _until_blank(stream)
    operator.task(workflow_id, "later", server="s")
    assert b"task-added" in _until_blank(stream)
    connection.close()


def test_s67_heads_of_streams_leave_the_connections_to_the_api_free(behind: ApiProcess, proxy: Nginx) -> None:
    operator = Operator(behind.url, project="heads")
    workflow_id = operator.workflow()
    log = f"/v1/workflows/{workflow_id}/tasks/{operator.task(workflow_id, server='s')['id']}/log?follow=true"
    headers = {**token_of(operator), "Accept": "text/event-stream"}
    for path in (f"/v1/workflows/{workflow_id}/events", log):
        for _ in range(5):
            assert ask(proxy, proxy.operator_port, "HEAD", path, headers) == (200, None)
            assert ask(proxy, proxy.operator_port, "GET", "/v1/workflows", token_of(operator))[0] == 200


def _until_blank(stream: Any) -> bytes:
    lines = b""
    while not lines.endswith(b"\n\n"):
        line = stream.readline()
        assert line, "the stream ended"
        lines += line
    return lines


def test_a_waiting_claim_is_answered_when_there_is_work(behind: ApiProcess, proxy: Nginx) -> None:
    operator = Operator(behind.url, project="wait")
    agent = operator.agent(server="s")
    got: list[tuple[int, Any]] = []
    own, claim = {"Authorization": f"Bearer {agent.bearer}"}, {"claim_id": new_id(), "wait": 30}
    waiter = threading.Thread(
        target=lambda: got.append(ask(proxy, proxy.guest_port, "POST", "/agent/v1/claim", own, claim))
    )
    waiter.start()
    workflow_id = operator.workflow()
    operator.call(
        "POST", f"/v1/workflows/{workflow_id}/tasks", json={"name": "t", "definition": DEFINITION, "server": "s"}
    )
    waiter.join(40)
    assert got[0][0] == 200
    assert got[0][1]["task"]["name"] == "t"


def test_no_timeout_of_the_proxy_is_shorter_than_a_wait() -> None:
    text = "".join(Path(path).read_text() for path in ETC.iterdir())
    seconds = [int(found) for found in re.findall(r"proxy_(?:read|send)_timeout (\d+)s", text)]
    assert len(seconds) == 2
    most = next(option.default for option in conf.API if option.name == "max_wait")
    assert min(seconds) >= most + 10
