# SPDX-License-Identifier: Apache-2.0
"""Leaving: a poll whose caller has gone takes no task, and one that the API has to leave is answered."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from heat_workflow.store import schema
from tests.harness.callers import Operator, SimulatedAgent, new_id
from tests.harness.databases import DatabaseServer
from tests.harness.servers import ApiProcess
from tests.harness.waiters import answered, heard, opened, until, waiting_polls

END_MOST = 5.0  # seconds from SIGTERM to the end of the process
STUCK = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, as a machine that is cut off would not even do


def poll(agent: SimulatedAgent, api: ApiProcess, report_of: dict[str, object] | None = None) -> socket.socket:
    """A poll of the agent that waits at the API."""
    held = waiting_polls(api.url)
    if report_of is None:
        peer = opened(api.port, agent, "POST", "/claim", {"claim_id": new_id(), "wait": 50})
    else:
        said = {name: report_of[name] for name in ("attempt", "claim_id")}
        body = {**said, "status": "succeeded", "claim": {"claim_id": new_id(), "wait": 50}}
        peer = opened(api.port, agent, "PUT", f"/tasks/{report_of['id']}/report", body)
    until(lambda: waiting_polls(api.url) == held + 1)
    return peer


@pytest.mark.parametrize("reports", [False, True], ids=["claim", "report with claim"])
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_poll_whose_caller_has_gone_takes_no_task(
    api: ApiProcess, operator: Operator, how: str, reports: bool
) -> None:
    agent, workflow_id = operator.agent(server="s"), operator.workflow()
    first = None
    if reports:
        operator.task(workflow_id, "first", server="s")
        first = agent.take()
    held = waiting_polls(api.url)
    peer = poll(agent, api, first)
    if how == "reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    peer.close()
    until(lambda: waiting_polls(api.url) == held)
    task = operator.task(workflow_id, server="s")
    assert operator.show(task)["state"] == "ready"
    assert agent.take()["attempt"] == 1


def test_a_poll_whose_caller_stays_takes_the_task(api: ApiProcess, operator: Operator) -> None:
    agent, workflow_id = operator.agent(server="s"), operator.workflow()
    with poll(agent, api) as peer:
        task = operator.task(workflow_id, server="s")
        status, body = answered(peer)
    assert status == 200
    assert json.loads(body)["task"]["id"] == task["id"]


def test_an_agent_whose_machine_went_away_is_let_in_again_at_once(api: ApiProcess, operator: Operator) -> None:
    """Its old poll does not count as another process that lives: only what it said last does."""
    agent = operator.agent(server="s")
    held = waiting_polls(api.url)
    poll(agent, api).close()
    until(lambda: waiting_polls(api.url) == held)
    successor = SimulatedAgent(api.url, agent.agent_id, agent.join_token)
    successor.secret = agent.secret
    assert successor.hello(previous_nonce=agent.nonce).status_code == 200


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[ApiProcess]:
    """An API of the test's own, to be ended."""
    process = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite")
    process.start()
    yield process
    process.stop()


def end(api: ApiProcess) -> float:
    """Send SIGTERM; how long the process took to end."""
    began = time.monotonic()
    api.stop()
    return time.monotonic() - began


def test_everybody_who_waits_is_answered_when_the_api_ends(ending: ApiProcess) -> None:
    operator = Operator(ending.url)
    agent, reporter = operator.agent(server="s"), operator.agent(server="t")
    workflow_id = operator.workflow()
    task = operator.task(workflow_id, "first", server="t")
    taken = reporter.take()
    waiting = operator.task(workflow_id, "second", server="nobody")
    claim = poll(agent, ending)
    report = poll(reporter, ending, taken)
    got: dict[str, requests.Response] = {}
    texts: dict[str, str] = {}
    path = f"/v1/workflows/{workflow_id}"
    begun = threading.Semaphore(0)

    def ask(name: str, where: str) -> None:
        begun.release()
        got[name] = Operator(ending.url).call("GET", where)

    def listen(name: str, where: str, **headers: str) -> None:
        with Operator(ending.url).session.get(ending.url + where, headers=headers, stream=True, timeout=30) as answer:
            begun.release()
            texts[name] = "".join(line.decode() + "\n" for line in answer.iter_lines())

    asked = [
        threading.Thread(target=ask, args=("task", f"{path}/tasks/{waiting['id']}?wait=50")),
        threading.Thread(target=ask, args=("workflow", f"{path}?wait=50")),
        threading.Thread(target=ask, args=("events", f"{path}/events?after=1000&wait=50")),
        threading.Thread(target=listen, args=("sse", f"{path}/events"), kwargs={"Accept": "text/event-stream"}),
        threading.Thread(target=listen, args=("log", f"{path}/tasks/{waiting['id']}/log?follow=true")),
    ]
    for thread in asked:
        thread.start()
    for _ in asked:
        assert begun.acquire(timeout=20)
    assert requests.get(f"{ending.url}/healthz", timeout=10).status_code == 200  # what was sent before has arrived
    assert end(ending) < END_MOST
    for thread in asked:
        thread.join(20)
    refused = heard(claim)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in refused.lower()
    assert json.loads(refused.partition(b"\r\n\r\n")[2])["errors"][0]["code"] == "heat-workflow.ending"
    stands = heard(report)
    assert stands.startswith(b"HTTP/1.1 200 ")
    assert json.loads(stands.partition(b"\r\n\r\n")[2]) == {"state": "succeeded", "task": None}
    assert {name: answer.status_code for name, answer in got.items()} == {"task": 200, "workflow": 200, "events": 200}
    assert got["task"].json()["state"] == "ready"
    assert task["id"] in texts["sse"]
    assert texts["log"] == ""


def test_a_body_that_is_still_coming_when_the_api_ends_is_answered_503(ending: ApiProcess) -> None:
    with socket.create_connection(("127.0.0.1", ending.port), 20) as peer:
        lines = ["POST /v1/workflows HTTP/1.1", "Host: api", "X-Auth-Token: u:p", "Content-Type: application/json"]
        peer.sendall("\r\n".join([*lines, "Content-Length: 100", "", '{"na']).encode())
        assert requests.get(f"{ending.url}/healthz", timeout=10).status_code == 200
        assert end(ending) < END_MOST
        answer = heard(peer)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"heat-workflow.ending" in answer


def test_the_api_ends_in_time_though_its_database_does_not_answer(postgresql: DatabaseServer, tmp_path: Path) -> None:
    url = postgresql.new_database(f"ending_{uuid.uuid4().hex[:8]}")
    schema.sync(url)
    api = ApiProcess(tmp_path, url)
    api.start()
    workflow_id = Operator(api.url).workflow()
    engine = sa.create_engine(url)
    answers: list[requests.Response] = []

    def rename() -> None:
        with contextlib.suppress(requests.ConnectionError):
            answers.append(Operator(api.url).call("PATCH", f"/v1/workflows/{workflow_id}", json={"name": "other"}))

    with engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE workflow IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=rename)
        thread.start()
        until(lambda: bool(connection.exec_driver_sql(STUCK).scalar_one()))
        assert end(api) < END_MOST + 0.5
        thread.join(20)
    engine.dispose()
    assert [answer.status_code for answer in answers] == [503]
