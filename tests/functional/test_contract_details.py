# SPDX-License-Identifier: Apache-2.0
"""Details of the contract that no other file speaks of: times of join tokens and waits, the fleet, the stream."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.callers import Operator, new_id
from tests.harness.servers import ApiProcess
from tests.harness.waiters import until

STREAM = {"Accept": "text/event-stream"}


def seconds_left(agent: dict[str, str]) -> float:
    expires = datetime.datetime.fromisoformat(agent["join_expires_at"])
    return (expires - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


@pytest.mark.parametrize(("body", "wanted"), [(None, 3600), ({}, 3600), ({"join_ttl": 120}, 120)])
def test_a_rejoin_says_how_long_its_token_is_good(operator: Operator, body: object, wanted: float) -> None:
    agent_id = operator.agent(server="s").agent_id
    answer = operator.call("POST", f"/v1/agents/{agent_id}/rejoin", json=body)
    assert answer.status_code == 200
    assert wanted - 30 < seconds_left(answer.json()) <= wanted


@pytest.mark.parametrize("body", [{"join_ttl": 0}, {"join_ttl": 86401}, {"join_ttl": "60"}, {"ttl": 60}])
def test_a_rejoin_with_a_body_that_is_none_changes_nothing(operator: Operator, body: object) -> None:
    agent = operator.agent(server="s")
    assert operator.call("POST", f"/v1/agents/{agent.agent_id}/rejoin", json=body).status_code == 422
    assert agent.claim().status_code == 204


def test_the_list_of_agents_shows_what_each_one_runs(operator: Operator) -> None:
    workflow_id = operator.workflow()
    busy, idle = operator.agent(server="s"), operator.agent(server="t")
    tasks = [operator.task(workflow_id, name, server="s") for name in ("a", "b")]
    for _ in tasks:
        busy.take()
    listed = {agent["id"]: agent for agent in operator.call("GET", "/v1/agents").json()["agents"]}
    assert sorted(listed[busy.agent_id]["running_tasks"]) == sorted(task["id"] for task in tasks)
    assert listed[idle.agent_id]["running_tasks"] == []


def test_a_fleet_is_filtered_by_what_is_known_of_it(operator: Operator) -> None:
    one, other = operator.agent(server="s"), operator.agent(server="t")
    one.hello(version="7.1", inventory={"os": "Debian 12"})
    pending, _ = operator.register(server="u")

    def ids(**params: str) -> set[str]:
        answer = operator.call("GET", "/v1/agents", params=params)
        assert answer.status_code == 200, answer.text
        return {agent["id"] for agent in answer.json()["agents"]}

    assert ids(state="active") == {one.agent_id, other.agent_id}
    assert ids(state="pending") == {pending}
    assert ids(version="7.1") == ids(server="s") == {one.agent_id}
    assert ids(seen_before="2020-01-01T00:00:00Z") == {pending}, "never seen is before every moment"
    assert ids(seen_before="2999-01-01T00:00:00Z") == {one.agent_id, other.agent_id, pending}
    shown = operator.call("GET", f"/v1/agents/{one.agent_id}").json()
    assert (shown["version"], shown["os"], shown["state"]) == ("7.1", "Debian 12", "active")
    assert shown["last_seen_at"] is not None


def test_a_stream_goes_on_after_the_last_event_that_was_heard(operator: Operator) -> None:
    workflow_id = operator.workflow()
    for n in range(3):
        operator.task(workflow_id, f"t{n}", server="s")
    url = f"{operator.url}/v1/workflows/{workflow_id}/events"
    with operator.session.get(url, headers={**STREAM, "Last-Event-ID": "3"}, stream=True, timeout=30) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert next(line for line in lines if line.startswith("id: ")) == "id: 4"


def test_a_stream_ends_with_its_workflow(operator: Operator) -> None:
    workflow_id = operator.workflow()
    url = f"{operator.url}/v1/workflows/{workflow_id}/events"
    with operator.session.get(url, headers=STREAM, stream=True, timeout=30) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert next(lines).startswith("id: 1")
        deleter = Operator(operator.url)
        deleter.session.headers.update(operator.session.headers)
        assert deleter.call("DELETE", f"/v1/workflows/{workflow_id}").status_code == 204
        assert [line for line in lines if line.startswith("id: ")] == []


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API behind a proxy that cuts what is silent for longer than a second or so."""
    directory: Path = tmp_path_factory.mktemp("impatient")
    api = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite", {"max_wait": "1"})
    api.start()
    yield api
    api.stop()


def test_no_answer_is_held_back_for_longer_than_the_operator_wants(impatient: ApiProcess) -> None:
    operator = Operator(impatient.url)
    agent = operator.agent(server="s")
    assert agent.hello().json()["max_wait"] == 1
    task = operator.task(operator.workflow(), server="t")
    place = f"/v1/workflows/{task['workflow_id']}"
    began = time.monotonic()
    held: list[requests.Response] = [
        agent.claim(wait=50),
        operator.call("GET", f"{place}/tasks/{task['id']}", params={"wait": 50}),
        operator.call("GET", place, params={"wait": 50}),
        operator.call("GET", f"{place}/events", params={"wait": 50, "after": 99}),
    ]
    assert [answer.status_code for answer in held] == [204, 200, 200, 200]
    assert time.monotonic() - began < 20


def test_a_request_id_of_the_caller_is_logged_beside_ours(impatient: ApiProcess) -> None:
    theirs = f"req-{new_id()}"
    answer = Operator(impatient.url).call("GET", "/v1/workflows", headers={"X-Openstack-Request-Id": theirs})
    ours = answer.headers["X-Openstack-Request-Id"]
    assert ours != theirs
    until(lambda: f"{ours} is {theirs}" in impatient.log.read_text())
