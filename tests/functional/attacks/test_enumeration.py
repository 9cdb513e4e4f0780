# SPDX-License-Identifier: Apache-2.0
"""Enumeration: what is another's and what does not exist cannot be told apart, by words, sizes or time."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import statistics
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from heat_workflow.api.routing import Route
from tests.functional.attacks.state import rows
from tests.functional.attacks.world import OPERATOR_ROUTES, Ids, World, name_of, operator_headers
from tests.harness.callers import Operator, new_id
from tests.harness.servers import ApiProcess

ADDRESSED = [route for route in OPERATOR_ROUTES if "{" in route.path and route.method != "PUT"]
LISTS = [
    ("/v1/workflows", "workflow_id"),
    ("/v1/agents", "agent_id"),
    ("/v1/workflows/{own}/tasks", "task_id"),
]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SAMPLES = 400
ROUNDS = 4


def seen(answer: requests.Response) -> Any:
    """Everything a prober can compare, ids replaced by one word."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    del headers["date"], headers["x-openstack-request-id"]
    return answer.status_code, headers, _UUID.sub("ID", answer.text)


@pytest.mark.parametrize("route", ADDRESSED, ids=name_of)
def test_s26_a_foreign_thing_looks_as_one_that_never_was(world: World, stranger: Operator, route: Route) -> None:
    headers = operator_headers(stranger)
    assert seen(world.ask(route, headers)) == seen(world.ask(route, headers, Ids.unknown()))


@pytest.mark.parametrize(("path", "kind"), LISTS)
def test_s26_a_foreign_marker_looks_as_an_unknown_one(world: World, stranger: Operator, path: str, kind: str) -> None:
    own = stranger.workflow()
    stranger.task(own)
    stranger.register()
    foreign, unknown = (
        stranger.call("GET", path.format(own=own), params={"marker": marker})
        for marker in (getattr(world.ids, kind), new_id())
    )
    assert seen(foreign) == seen(unknown)
    assert foreign.status_code == 200


def test_s26_ids_and_numbers_tell_nothing_of_other_projects(world: World, stranger: Operator) -> None:
    first, second = stranger.agent(), stranger.agent()
    for path in ("/drain", "/undrain"):
        world.owner.call("POST", f"/v1/agents/{world.ids.agent_id}{path}")
        stranger.call("POST", f"/v1/agents/{first.agent_id}{path}")
    for agent in (first, second):
        events = stranger.call("GET", f"/v1/agents/{agent.agent_id}/events").json()["events"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    for _ in range(3):
        assert uuid.UUID(stranger.workflow()).version == 4


def test_s26_events_go_on_after_the_last_number(world: World) -> None:
    path = f"/v1/agents/{world.ids.agent_id}/events"
    everything = world.owner.call("GET", path).json()
    one = world.owner.call("GET", path, params={"limit": "1"}).json()
    rest = world.owner.call("GET", path, params={"after": str(one["last"])}).json()
    assert one["events"] + rest["events"] == everything["events"]


class Prober:
    """One kept connection that asks the same two questions again and again."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection

    def microseconds(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> float:
        began = time.perf_counter_ns()
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        answer.read()
        took = (time.perf_counter_ns() - began) / 1000
        assert answer.status in (401, 404), answer.status
        return took

    def fastest(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[float, float]:
        """The lower decile of as many samples of each, taken by turns: other work of the machine only adds to a time,
        so the fast ones show what the answer itself costs."""
        pairs = [(self.microseconds(*one), self.microseconds(*other)) for _ in range(SAMPLES)]
        return statistics.quantiles((a for a, _ in pairs), n=10)[0], statistics.quantiles((b for _, b in pairs), n=10)[
            0
        ]

    def assert_alike(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
        """A difference that is there is there every time; what the machine's other work does is not."""
        tried = []
        for _ in range(ROUNDS):
            a, b = self.fastest(one, other)
            tried.append((a, b))
            if abs(a - b) <= max(100.0, 0.05 * min(a, b)):
                return
        raise AssertionError(f"lower deciles in microseconds differ in every round: {tried}")


@pytest.fixture
def prober(api: ApiProcess) -> Iterator[Prober]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        yield Prober(connection)


def test_s25_an_unknown_agent_takes_as_long_as_a_wrong_secret(prober: Prober, world: World) -> None:
    body = json.dumps({"claim_id": new_id()}).encode()

    def question(agent_id: str) -> tuple[Any, ...]:
        token = f"hwa1.{uuid.UUID(agent_id).hex}.{secrets.token_urlsafe(32)}"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return "POST", "/agent/v1/claim", headers, body

    prober.assert_alike(question(world.ids.agent_id), question(new_id()))


@pytest.mark.parametrize("path", ["/v1/workflows/{0.workflow_id}/tasks/{0.task_id}", "/v1/agents/{0.agent_id}"])
def test_s25_a_foreign_thing_takes_as_long_as_a_missing_one(
    prober: Prober, world: World, stranger: Operator, path: str
) -> None:
    headers = operator_headers(stranger)
    foreign, missing = (("GET", path.format(ids), headers) for ids in (world.ids, Ids.unknown()))
    prober.assert_alike(foreign, missing)


def test_the_world_is_really_there(api: ApiProcess, world: World) -> None:
    assert rows(api, "SELECT id FROM task WHERE id = ?", world.ids.task_id)
