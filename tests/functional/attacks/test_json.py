# SPDX-License-Identifier: Apache-2.0
"""JSON under attack: what Python's parser takes and the stores would each take differently."""

from __future__ import annotations

import json

import pytest

from heat_workflow.api.openapi import AGENT_CALLERS
from heat_workflow.api.routing import Route
from tests.functional.attacks.state import Steady
from tests.functional.attacks.world import ROUTES, World, bearer, name_of, operator_headers
from tests.harness.callers import Operator, SimulatedAgent

BODIED = [route for route in ROUTES if route.body is not None]
TEXTS: dict[str, bytes] = {
    "33 levels": b'{"x":' * 33 + b"1" + b"}" * 33,
    "a hundred thousand levels": b"[" * 100_000,
    "a hundred thousand levels, closed": b"[" * 100_000 + b"]" * 100_000,
    "NaN": b'{"x": NaN}',
    "Infinity": b'{"x": -Infinity}',
    "beyond a float": b'{"x": 1e999}',
    "5000 digits": b'{"x": ' + b"9" * 5000 + b"}",
    "beyond 64 bits": b'{"x": 9223372036854775808}',
    "a key twice": b'{"name": "a", "name": "b"}',
    "a key twice, deep": b'{"name": "a", "x": [{"y": 1, "y": 2}]}',
    "the same key written in two ways": b'{"name": "a", "n\\u0061me": "b"}',
    "a byte order mark": b'\xef\xbb\xbf{"name": "a"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "UTF-32": '{"name": "a"}'.encode("utf-32"),
    "Latin-1": b'{"name": "\xe4"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "half a surrogate pair in a key": b'{"\\udfff": 1}',
    "NUL": b'{"name": "a\\u0000b"}',
    "NUL as it is": b'{"name": "a\0b"}',
    "something after the end": b'{"name": "a"} {}',
    "a comment": b'{"name": "a" /* b */}',
    "a comma too many": b'{"name": "a",}',
    "single quotes": b"{'name': 'a'}",
    "nothing": b"",
    "blanks": b"  \n ",
    "cut short": b'{"name": "a"',
    "not JSON at all": b"name=a",
}
WRONG_SHAPES = [b"null", b"true", b"1", b'"name"', b"[]", b'[{"name": "a"}]']


def headers_for(route: Route, world: World) -> dict[str, str]:
    if route.caller not in AGENT_CALLERS:
        who = operator_headers(world.owner)
    else:
        who = bearer(world.agent.join_token if route.caller == "join-token" else world.agent.bearer)
    return {**who, "Content-Type": "application/json"}


@pytest.mark.parametrize("route", BODIED, ids=name_of)
def test_s32_s33_what_is_not_plain_json_is_refused_everywhere(steady: Steady, world: World, route: Route) -> None:
    headers = headers_for(route, world)
    texts = {name: text for name, text in TEXTS.items() if text or not route.body_may_lack}
    with steady():
        got = {name: world.ask(route, headers, data=text).status_code for name, text in texts.items()}
        shapes = {text: world.ask(route, headers, data=text).status_code for text in WRONG_SHAPES}
    assert got == dict.fromkeys(texts, 400)
    assert set(shapes.values()) == {422}


def test_s32_thirty_two_levels_are_served(operator: Operator) -> None:
    value: object = "deep"
    for _ in range(30):
        value = [value]
    task = operator.task(operator.workflow(), input_values={"x": value})
    assert task["input_values"] == {"x": value}


def test_s32_brackets_in_text_are_not_levels(operator: Operator) -> None:
    text = '[{"' * 5000 + "\\"
    assert operator.task(operator.workflow(), input_values={"x": text})["input_values"] == {"x": text}


@pytest.mark.parametrize(
    "name",
    [
        "a\u202eb",
        "a\u2066b",
        "a\u200bb",
        "\ufeffa",
        "a\u2028b",
        "a\nb",
        "a\rb",
        "a\tb",
        "a\x1b[31mb",
        "a\x7fb",
        "a\x85b",
    ],
)
def test_s33_names_hold_nothing_that_cannot_be_seen(steady: Steady, operator: Operator, name: str) -> None:
    workflow_id = operator.workflow()
    definition = {"group": "script"}
    with steady():
        for path, body in (
            ("/v1/workflows", {"name": name}),
            ("/v1/workflows", {"name": "w", "tags": [name]}),
            (f"/v1/workflows/{workflow_id}/tasks", {"name": name, "definition": definition}),
            (f"/v1/workflows/{workflow_id}/tasks", {"name": "t", "definition": definition, "server": name}),
            (f"/v1/workflows/{workflow_id}/tasks", {"name": "t", "definition": definition, "input_values": {name: 1}}),
        ):
            assert operator.call("POST", path, json=body).status_code == 400, body


@pytest.mark.parametrize(
    "text", ["\U0001f600", "a\u202eb", "a\u200bb", "e\u0301", "\u00e9", "\x1b[31m", "\ufeff", "\x7f"]
)
def test_s33_values_come_back_as_they_were_sent(operator: Operator, text: str) -> None:
    task = operator.task(operator.workflow(), server="s", input_values={"x": text})
    assert operator.show(task)["input_values"] == {"x": text}
    agent: SimulatedAgent = operator.agent(server="s")
    taken = agent.take()
    assert taken["input_values"] == {"x": text}
    agent.report(taken, outputs={"y": text})
    assert operator.show(task)["outputs"] == {"y": text}


def test_s33_twins_in_unicode_are_two_names(operator: Operator) -> None:
    workflow_id = operator.workflow()
    composed, decomposed = (operator.task(workflow_id, name)["id"] for name in ("caf\u00e9", "cafe\u0301"))
    third = operator.task(workflow_id, "next", requires=["caf\u00e9"])
    edges = operator.call("GET", f"/v1/workflows/{workflow_id}/graph").json()["edges"]
    assert edges == [{"from": composed, "to": third["id"], "how": "requires"}]
    assert composed != decomposed


def test_s33_case_matters(operator: Operator) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "A")
    body = {"name": "t", "definition": {"group": "script"}, "requires": ["a"]}
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", data=json.dumps(body))
    assert answer.status_code == 422
