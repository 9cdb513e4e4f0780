# SPDX-License-Identifier: Apache-2.0
"""Cost of a refusal: whoever proves nothing is not read, and no request keeps the API's processor busy (S66)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from heat_workflow.api.routing import Route
from tests.functional.attacks.raw import Heard, listen, processor_seconds
from tests.functional.attacks.test_json import BODIED, headers_for
from tests.functional.attacks.world import ROUTES, World, filled, name_of
from tests.harness.callers import new_id
from tests.harness.servers import ApiProcess

MIB = 1024 * 1024
REFUSAL_MOST = 0.1  # seconds of CPU
ANSWER_MOST = 4096
WRONG = [
    "X-Auth-Token: ",
    f"Authorization: Bearer hwj1.{new_id().replace('-', '')}.{'x' * 43}",
    f"Authorization: Bearer hwa1.{new_id().replace('-', '')}.{'x' * 43}",
]


def request(route: Route, world: World, lines: list[str], query: str = "") -> bytes:
    path = filled(route.path, world.ids) + query
    start = [f"{route.method} {path} HTTP/1.1", "Host: api", "Content-Type: application/json", *lines, "", ""]
    return "\r\n".join(start).encode()


@pytest.mark.parametrize("route", [route for route in ROUTES if route.caller != "anybody"], ids=name_of)
def test_s66_a_stranger_is_refused_before_the_body_arrives(api: ApiProcess, world: World, route: Route) -> None:
    for wrong in WRONG:
        for length in (f"Content-Length: {MIB}", "Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", api.port), timeout=20) as peer:
                peer.sendall(request(route, world, [wrong, length]))
                assert peer.recv(65536).startswith(b"HTTP/1.1 401 ")


def chunked(body: bytes, size: int, extension: bytes = b"") -> bytes:
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"


def told(headers: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]


def wrong_requests(route: Route, world: World) -> Iterator[tuple[str, bytes]]:
    """Ways to be refused that the rightful caller has."""
    who = told({name: value for name, value in headers_for(route, world).items() if name != "Content-Type"})
    twice = ("{" + ",".join(f'"{n:x}":0' for n in range(30_000)) + ',"a":0,"a":0}').encode()
    unknown = ("{" + ",".join(f'"{n:x}":0' for n in range(30_000)) + "}").encode()
    bodies = {"a key twice": twice, "unknown": unknown, "brackets": b'{"a":"' + b"[" * (MIB - 9) + b'"}'}
    for name, body in bodies.items():
        yield name, request(route, world, [*who, f"Content-Length: {len(body)}"]) + body
    for size, extension in ((1, b""), (4096, b""), (16, b";" + b"x" * 1000)):
        yield (
            f"chunks of {size}",
            request(route, world, [*who, "Transfer-Encoding: chunked"]) + chunked(twice, size, extension),
        )
    endless = b"".join(b"x-%d: y\r\n" % number for number in range(60_000))
    yield "trailers", request(route, world, [*who, "Transfer-Encoding: chunked"]) + b"0\r\n" + endless + b"\r\n"
    yield "headers", request(route, world, [*who, *[f"x-{number}: y" for number in range(100_000)]])
    yield "one query", request(route, world, [*who, "Content-Length: 0"], "?" + "&".join(["a=1"] * 1000))
    yield "another", request(route, world, [*who, "Content-Length: 0"], "?" + "%00" * 1300)


@pytest.mark.parametrize("route", BODIED, ids=name_of)
def test_s66_a_refusal_costs_little_processor_and_a_short_answer(api: ApiProcess, world: World, route: Route) -> None:
    slow = {}
    for name, wrong in wrong_requests(route, world):
        costs = []
        for _ in range(3):
            before = processor_seconds(api)
            heard = _say_and_hear(api, wrong)
            costs.append(processor_seconds(api) - before)
            assert 400 <= heard.statuses[0] < 500, name
            assert len(heard.data) < ANSWER_MOST, name
            if costs[-1] <= REFUSAL_MOST:
                break
        if min(costs) > REFUSAL_MOST:
            slow[name] = min(costs)
    assert slow == {}


def _say_and_hear(api: ApiProcess, wrong: bytes) -> Heard:
    """The answer; what the API does not want to read is not waited for."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as peer:
        try:
            peer.sendall(wrong)
        except OSError:
            return listen(peer)
        heard = b""
        while b"\r\n\r\n" not in heard:
            part = peer.recv(65536)
            if not part:
                break
            heard += part
        length = int(heard.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(heard.partition(b"\r\n\r\n")[2]) < length:
            heard += peer.recv(65536)
        return Heard(heard, closed=False)


def test_s66_a_refusal_repeats_little_of_what_was_said(world: World) -> None:
    route = next(route for route in BODIED if name_of(route) == "POST /v1/workflows")
    for body in ({"x" * 500_000: 1}, {"name": "w", "tags": ["y" * 500_000]}, {"tasks": [{"z" * 400_000: 1}]}):
        answer = world.ask(route, headers_for(route, world), data=json.dumps(body))
        assert (answer.status_code, len(answer.content) < ANSWER_MOST) == (422, True)
