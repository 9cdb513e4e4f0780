# SPDX-License-Identifier: Apache-2.0
"""Injection: text that wants to be SQL, a header, a path or a second line."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functional.attacks.raw import head, say
from tests.functional.attacks.state import Steady
from tests.functional.attacks.world import World
from tests.harness.callers import DEFINITION, Operator
from tests.harness.servers import ApiProcess

SQL = [
    "'",
    '"',
    "%",
    "_",
    "\\",
    "';--",
    "' OR '1'='1",
    "x' UNION SELECT * FROM agent --",
    "\u2018\u2019\u02bc\uff07",
    ":name",
    "?1",
    "$$",
    "{0}",
    "%s%n",
    "*",
    "a; DROP TABLE task",
]
CLOSE = "Connection: close"
PATHS = ["../../x", "/etc/passwd", "a/b", ".", "..", "", "a" * 300, "..\\x", "a\\b"]


@pytest.mark.parametrize("text", SQL)
def test_s27_filters_match_letter_for_letter(operator: Operator, text: str) -> None:
    plain, odd = operator.workflow(name="plain"), operator.workflow(name=text, tags=[text])
    for field in ("name", "tag"):
        found = operator.call("GET", "/v1/workflows", params={field: text}).json()["workflows"]
        assert [workflow["id"] for workflow in found] == [odd], field
    agent_id, _ = operator.register(server=text)
    found = operator.call("GET", "/v1/agents", params={"server": text}).json()["agents"]
    assert [agent["id"] for agent in found] == [agent_id]
    assert operator.call("GET", "/v1/agents", params={"version": text}).json()["agents"] == []
    assert operator.call("GET", f"/v1/workflows/{plain}").status_code == 200


@pytest.mark.parametrize("text", [*SQL, "1", "null", "-1", "00000000-0000-0000-0000-00000000000g", "' || id || '"])
def test_s27_markers_and_ids_are_ids_or_nothing(steady: Steady, operator: Operator, text: str) -> None:
    workflow_id = operator.workflow()
    with steady():
        for path in ("/v1/workflows", "/v1/agents", f"/v1/workflows/{workflow_id}/tasks"):
            assert operator.call("GET", path, params={"marker": text}).status_code == 422
            assert operator.call("GET", path, params={"sort": text}).status_code == 422
            assert operator.call("GET", path, params={"state": text}).status_code == 422
        for path in ("/v1/workflows/", f"/v1/workflows/{workflow_id}/tasks/", "/v1/agents/"):
            answer = operator.session.get(operator.url + path + _escaped(text), timeout=10)
            assert answer.status_code == 404


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(text=st.text(min_size=1, max_size=40))
def test_s27_any_text_is_a_literal_or_refused(operator: Operator, text: str) -> None:
    asked = operator.call("GET", "/v1/workflows", params={"name": text})
    assert asked.status_code in (200, 400)
    created = operator.call("POST", "/v1/workflows", json={"name": text})
    assert created.status_code in (201, 400)
    if created.status_code == 201:
        found = operator.call("GET", "/v1/workflows", params={"name": text}).json()["workflows"]
        assert created.json()["id"] in [workflow["id"] for workflow in found]
        assert {workflow["name"] for workflow in found} == {text}


def test_s27_nul_in_a_query_is_refused(steady: Steady, operator: Operator) -> None:
    with steady():
        for path in ("/v1/workflows?name=a%00b", "/v1/agents?server=%00", "/v1/workflows?tag=%00"):
            assert operator.call("GET", path).status_code == 400


def test_s31_no_text_of_a_caller_becomes_a_header(api: ApiProcess, steady: Steady, project: str) -> None:
    token = f"u:{project}"
    injected = "x%0d%0aSet-Cookie:%20a=b"
    request_id = f"req-{uuid.uuid4()}"
    with steady():
        for path in (f"/v1/workflows/{injected}", f"/v1/workflows?name={injected}", f"/{injected}", f"/v1/{injected}/"):
            heard = say(api, head("GET", path, CLOSE, token=token))
            assert b"set-cookie" not in heard.head
        heard = say(api, head("GET", "/", f"X-Openstack-Request-Id: {request_id}", CLOSE))
        assert request_id.encode() not in heard.data, "the API names its own"
        heard = say(api, head("GET", "/v1/workflows/", "Host: evil", token=token))
        assert b"evil" not in heard.data


def test_s31_lines_in_names_outputs_and_ids_are_refused(steady: Steady, world: World) -> None:
    line = "x\r\nSet-Cookie: a=b"
    owner, agent = world.owner, world.agent
    with steady():
        answers = [
            owner.call("POST", "/v1/workflows", json={"name": line}),
            owner.call("POST", "/v1/workflows", json={"name": "w", "id": line}),
            owner.call("PUT", f"/v1/agents/{uuid.uuid4()}", json={"name": line}),
            agent.report(world.taken, outputs={line: "x"}),
            agent.call("POST", "/claim", json={"claim_id": line}),
            agent.hello(nonce=line),
            agent.hello(inventory={line: "x"}),
        ]
    assert [answer.status_code for answer in answers] == [400, 422, 400, 400, 422, 422, 400]
    assert not [answer for answer in answers if "set-cookie" in answer.headers]


def test_s31_a_slash_at_the_end_leads_nowhere(api: ApiProcess) -> None:
    heard = say(api, head("GET", "/v1/workflows/", CLOSE).replace(b"Host: api", b"Host: evil.example"))
    assert heard.statuses == [404]
    assert b"evil.example" not in heard.data


@pytest.mark.parametrize("name", PATHS)
def test_s35_no_name_of_a_value_is_a_path(steady: Steady, operator: Operator, name: str) -> None:
    path = f"/v1/workflows/{operator.workflow()}/tasks"
    task = {"name": "t", "definition": DEFINITION}
    with steady():
        for fields in (
            {"definition": {"group": "script", "outputs": [{"name": name}]}},
            {"definition": {"group": "script", "inputs": [{"name": name}]}},
            {"input_values": {name: "x"}},
            {"hidden_inputs": [name]},
            {"hidden_outputs": [name]},
        ):
            assert operator.call("POST", path, json={**task, **fields}).status_code == 422, fields


@pytest.mark.parametrize("name", ["a\0b", "a\nb"])
def test_s35_nor_does_it_hold_what_no_name_holds(steady: Steady, operator: Operator, name: str) -> None:
    body = {"name": "t", "definition": {"group": "script", "outputs": [{"name": name}]}}
    path = f"/v1/workflows/{operator.workflow()}/tasks"
    with steady():
        answer = operator.call("POST", path, data=json.dumps(body))
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "group", ["../../bin/sh", "script;id", "script\n", "", "a b", "scr\u0456pt", "\u0661", "a" * 300]
)
def test_s36_a_group_is_a_plain_word(steady: Steady, operator: Operator, group: str) -> None:
    body = {"name": "t", "definition": {"group": group}}
    path = f"/v1/workflows/{operator.workflow()}/tasks"
    with steady():
        assert operator.call("POST", path, json=body).status_code == 422
