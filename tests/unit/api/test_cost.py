# SPDX-License-Identifier: Apache-2.0
"""Cost: reading a body, however wrong, takes CPU in proportion to its size, and not much of it (S66)."""

from __future__ import annotations

import functools
import gc
import json
import time
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heat_workflow import errors
from heat_workflow.api import reading, schemas
from heat_workflow.api.app import routes
from heat_workflow.api.problems import refusal

MIB = 1024 * 1024
REFUSAL_MOST = 0.1  # seconds of CPU for 1 MiB
PART = MIB // 16  # there are many ways to be wrong: each is tried with a part, and a square would still be seen
PART_MOST = REFUSAL_MOST / 2
ANSWER_MOST = 4096
Schema = type[pydantic.BaseModel]
SCHEMAS: dict[str, Schema] = {f"{r.method} {r.path}": r.body for r in routes(["operator", "guest"]) if r.body}


@pytest.fixture(autouse=True, scope="module")
def _collector_as_in_the_api() -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def repeated(item: str, size: int, before: str = "[", after: str = "0]") -> bytes:
    return (before + item * ((size - len(before) - len(after)) // len(item)) + after).encode("utf-8", "surrogateescape")


@functools.cache
def numbered(item: str, size: int, after: str = '"zz":0}') -> bytes:
    """An object of as many different keys as fit; ``item`` has a place for the number."""
    parts, left = ["{"], size - len(after) - 1
    for number in range(size):
        part = item % number
        left -= len(part)
        if left < 0:
            break
        parts.append(part)
    return "".join([*parts, after]).encode()


TEXTS: dict[str, Callable[[int], bytes]] = {
    "a key twice, late": lambda n: numbered('"%010x":0,', n, '"zz":0,"zz":0}'),
    "a key twice, early": lambda n: b'{"zz":0,"zz":0,' + numbered('"%010x":0,', n - 20)[1:],
    "a key twice in each of many": lambda n: repeated('{"a":"        ","a":"          "},', n),
    "one key again and again": lambda n: repeated('"a":"        ",', n, "{", '"a":0}'),
    "a long key twice": lambda n: (
        repeated("k", n // 2, '{"', '":0,').ljust(n // 2) + repeated("k", n // 2, '"', '":0}')
    ),
    "keys written in escapes": lambda n: repeated('"\\u0061": 0 ,', n, "{", '"a":0}'),
    "deep": lambda n: b"[" * n,
    "deep and closed": lambda n: b"[" * (n // 2) + b"]" * (n // 2),
    "many that are deep": lambda n: repeated("[" * 32 + " " * 300 + "]" * 32 + ",", n, after="x]"),
    "nothing but ends": lambda n: b"]" * n,
    "lists": lambda n: repeated("[],", n),
    "as many lists as may be": lambda n: repeated("[         ],", n, after="x]"),
    "objects": lambda n: repeated("{},", n, '[{"a":0},'),
    "as many objects as may be": lambda n: repeated("{         },", n, '[{"a":0},', "x]"),
    "brackets in a string": lambda n: repeated("[{", n, '["', '"]x'),
    "quotes": lambda n: b'"' * n,
    "escaped quotes without end": lambda n: repeated('\\"', n, '["', ""),
    "backslashes": lambda n: repeated("\\\\", n, '["', '\\"]'),
    "strings": lambda n: repeated('"",', n, after="]"),
    "one number": lambda n: b"9" * n,
    "numbers that Python reads slowly": lambda n: repeated("9" * 4299 + ",", n),
    "numbers beyond 64 bits": lambda n: repeated("9" * 19 + ",", n),
    "long numbers, the last beyond 64 bits": lambda n: repeated("1" * 19 + ",", n, after="9" * 19 + "]"),
    "floats, the last beyond its bits": lambda n: repeated("1e100,", n, after="1e999]"),
    "a long float": lambda n: repeated("1", n, "[", ".0]"),
    "a long fraction": lambda n: repeated("1", n, "[0.", ""),
    "a long exponent": lambda n: repeated("1", n, "[1e", "]"),
    "surrogates, the last alone": lambda n: repeated("\\ud83d\\ude00", n, '["', '\\ud800"]'),
    "escapes, the last NUL": lambda n: repeated("\\u0041", n, '["', '\\u0000"]'),
    "integers, then a surrogate": lambda n: repeated("0,", n, "[", '"\\udc00"]'),
    "blanks": lambda n: b" " * n,
    "lines": lambda n: b"\n" * n + b"x",
    "not UTF-8 at its end": lambda n: repeated("\u00e4", n // 2, '["', '\udcff"]'),
    "NaN at its end": lambda n: repeated("0,", n, after="NaN]"),
    "a comma too many": lambda n: repeated("0,", n, after="]"),
    "words": lambda n: repeated("true,", n, after="x]"),
}
LISTS = ["0", '""', "{}", "[]", '{"a":0}', '"a/"', json.dumps(dict.fromkeys("abcdefghijklmnopqrst")), '"\u200b"', "1e9"]
OBJECTS = ['"%x":0,', '"%x/":0,', '"%x":[],', '"%x":"",', '"%x":{},']


def places(kind: Any, around: tuple[str, str] = ("", "")) -> Iterator[tuple[str, str]]:
    """What stands before and after each value that a body of this type may hold, as deep as its models go."""
    for part in typing.get_args(kind):
        yield from places(part, around)
    if isinstance(kind, type) and issubclass(kind, pydantic.RootModel):
        yield from places(kind.model_fields["root"].annotation, around)
    elif isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        yield around
        others = [f'"{n}":{text}' for n, text in (("name", '"n"'), ("group", '"g"')) if n in kind.model_fields]
        for name, field in kind.model_fields.items():
            before = ",".join([*(other for other in others if f'"{name}"' not in other), f'"{field.alias or name}":'])
            inside = (around[0] + "{" + before, "}" + around[1])
            yield inside
            listed = any(
                typing.get_origin(part) is list for part in (field.annotation, *typing.get_args(field.annotation))
            )
            yield from places(field.annotation, (inside[0] + "[", "]" + inside[1]) if listed else inside)


def wrong_bodies(schema: Schema, size: int) -> Iterator[bytes]:
    """By place, as much of each wrong thing as fits there."""
    for before, after in sorted(set(places(schema))):
        left = size
        for item in LISTS:
            yield before.encode() + repeated(item + ",", left - 10) + after.encode()
        for item in OBJECTS:
            yield before.encode() + numbered(item, size) + after.encode()
        yield before.encode() + repeated("a", left, '"', '"') + after.encode()


def cpu_of(body: bytes, schema: Schema) -> tuple[float, errors.HeatWorkflowError | None]:
    """Seconds of CPU that reading it takes, the least of a few tries on a busy machine; and the refusal."""
    least, refused = float("inf"), None
    for _ in range(4):
        before = time.thread_time()
        try:
            reading.parsed(body, schema)
        except errors.HeatWorkflowError as exc:
            refused = exc
        least = min(least, time.thread_time() - before)
        if least < PART_MOST / 2:
            break
    return least, refused


@pytest.mark.parametrize("text", TEXTS)
def test_s66_a_mebibyte_that_is_not_plain_json_is_refused_cheaply(text: str) -> None:
    body = TEXTS[text](MIB)
    assert MIB * 0.9 < len(body) <= MIB + 20
    cpu, refused = cpu_of(body, schemas.WorkflowIn)
    assert refused is not None
    assert len(bytes(refusal(refused, "req").body)) < ANSWER_MOST
    assert cpu < REFUSAL_MOST


@pytest.mark.parametrize("route", {schema: route for route, schema in SCHEMAS.items()}.values())
def test_s66_wrong_fields_are_refused_cheaply(route: str) -> None:
    slow = {}
    for body in wrong_bodies(SCHEMAS[route], PART):
        cpu, refused = cpu_of(body, SCHEMAS[route])
        if refused is not None:
            assert len(bytes(refusal(refused, "req").body)) < ANSWER_MOST
        if cpu > PART_MOST:
            slow[body[:120]] = cpu
    assert slow == {}


def declared(count: int, **last: Any) -> dict[str, Any]:
    inputs = [{"name": f"{number:x}"} for number in range(count)]
    return {"name": "t", "definition": {"group": "g", "inputs": inputs, **last}}


ALMOST: dict[str, dict[str, Any]] = {
    "tasks": {"tasks": [{"name": "t", "definition": {"group": "g"}}] * 9_999 + [{"name": "t"}]},
    "declared inputs": {"tasks": [declared(256)] * 77 + [declared(200, group=0)]},
    "too many declared inputs": {"tasks": [declared(256)] * 100},
    "edges": {
        "tasks": [
            {
                "name": "t",
                "heat": {"stack_id": "s", "resource": "r", "edges": [{"from": "a", "how": "b"}] * 999},
                "definition": {"group": "g"},
            }
        ]
        * 20
        + [{"name": "t"}]
    },
    "requirements": {"tasks": [{"name": "t", "definition": {"group": "g"}, "requires": ["a"] * 1000}] * 200 + [0]},
    "hidden inputs": {"tasks": [{"name": "t", "definition": {"group": "g"}, "hidden_inputs": ["a"] * 256}] * 800 + [0]},
}


@pytest.mark.parametrize("name", ALMOST)
def test_s66_what_is_wrong_at_its_end_alone_is_refused_cheaply(name: str) -> None:
    body = json.dumps({"name": "w", **ALMOST[name]}, separators=(",", ":")).encode()
    assert len(body) <= MIB
    cpu, refused = cpu_of(body, schemas.WorkflowIn)
    assert isinstance(refused, errors.Invalid)
    assert cpu < REFUSAL_MOST


VALUES = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**31, 2**63 - 1, 1e308, "", "a", "\0", "\u200b", "a/b", "x" * 600]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("route", SCHEMAS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_s66_no_body_costs_more_than_its_size(route: str, data: st.DataObject) -> None:
    """Some value again and again, in a list or under keys, in some place: CPU per byte stays within bounds."""
    schema = SCHEMAS[route]
    before, after = data.draw(st.sampled_from(sorted(set(places(schema)))))
    item = json.dumps(data.draw(VALUES), ensure_ascii=data.draw(st.booleans()), separators=(",", ":"))
    if data.draw(st.booleans()):
        middle = repeated(item + ",", PART, after=item + "]")
    else:
        middle = numbered('"%x":' + item.replace("%", "%%") + ",", PART)
    cpu, _ = cpu_of(before.encode() + middle + after.encode(), schema)
    assert cpu < PART_MOST


def test_the_places_of_a_body_are_found() -> None:
    found = {before for before, _ in places(SCHEMAS["POST /v1/workflows"])}
    assert any(
        before.endswith('"tasks":[{"name":"n","definition":{"group":"g","inputs":[{"name":"n","type":')
        for before in found
    )
