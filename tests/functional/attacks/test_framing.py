# SPDX-License-Identifier: Apache-2.0
"""Framing: requests whose bytes lie about where they end, or have no end."""

from __future__ import annotations

import gzip
import itertools
import socket
import time
from collections.abc import Iterator

import pytest

from tests.functional.attacks.raw import Heard, head, listen, resident_bytes, say
from tests.functional.attacks.state import Steady
from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess

CLOSE = "Connection: close"
MEBIBYTE = 1024 * 1024
BODY = b'{"name":"w"}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"c\r\n" + BODY + b"\r\n0\r\n\r\n"


@pytest.fixture
def token(project: str) -> str:
    return f"u:{project}"


def post(token: str, *lines: str) -> bytes:
    return head("POST", "/v1/workflows", *lines, token=token)


def refused(heard: Heard, status: int) -> None:
    """One answer, and the connection is over."""
    assert heard.statuses == [status]
    assert heard.closed


def test_a_request_as_it_should_be_is_served(api: ApiProcess, token: str) -> None:
    assert say(api, post(token, LENGTH, CLOSE) + BODY).statuses == [201]
    assert say(api, post(token, CHUNKED, CLOSE) + CHUNKS).statuses == [201]


SMUGGLED = {
    "both lengths": (LENGTH, CHUNKED),
    "both lengths, the other way round": (CHUNKED, LENGTH),
    "two equal lengths": (LENGTH, LENGTH),
    "two lengths": (LENGTH, "Content-Length: 5"),
    "a list of lengths": (f"{LENGTH}, {len(BODY)}",),
    "a signed length": (f"Content-Length: +{len(BODY)}",),
    "a negative length": ("Content-Length: -1",),
    "a length beyond 64 bits": ("Content-Length: 99999999999999999999999",),
    "a blank before the colon": (f"Content-Length : {len(BODY)}",),
    "a folded line": (LENGTH, "X-A: b\r\n c: d"),
    "a folded coding": (LENGTH, f"X-A: b\r\n\t{CHUNKED}"),
    "a bare LF": (f"X-A: b\n{LENGTH}",),
    "a bare CR": (f"X-A: b\r{LENGTH}",),
    "NUL in a value": (LENGTH, "X-A: a\0b"),
    "no name": (LENGTH, ": b"),
    "an unknown coding": ("Transfer-Encoding: xchunked",),
    "a coding before chunked": ("Transfer-Encoding: gzip, chunked",),
    "a coding after chunked": ("Transfer-Encoding: chunked, identity",),
    "chunked twice": (CHUNKED, CHUNKED),
    "identity": (LENGTH, "Transfer-Encoding: identity"),
    "two hosts": (LENGTH, "Host: other"),
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_s30_what_two_servers_could_read_in_two_ways_is_refused(
    api: ApiProcess, steady: Steady, token: str, lines: tuple[str, ...]
) -> None:
    content = CHUNKS if CHUNKED in lines and LENGTH not in lines else BODY
    with steady():
        refused(say(api, post(token, *lines) + content), 400)


def test_s30_an_old_version_has_no_chunks(api: ApiProcess, steady: Steady, token: str) -> None:
    with steady():
        refused(say(api, post(token, CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKS), 400)


@pytest.mark.parametrize("size", [b"0xc", b"+c", b"c ", b"c;a=b\nd", b"c\n", b"ffffffffffffffffff", b""])
def test_s30_a_chunk_size_is_digits(api: ApiProcess, steady: Steady, token: str, size: bytes) -> None:
    with steady():
        refused(say(api, post(token, CHUNKED) + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n"), 400)


def test_s30_a_request_hidden_in_a_body_is_not_served(api: ApiProcess, steady: Steady, token: str) -> None:
    hidden = post(token, LENGTH) + BODY
    with steady():
        heard = say(api, post(token, LENGTH, CHUNKED) + b"0\r\n\r\n" + hidden)
    refused(heard, 400)


def test_s30_nothing_follows_a_request_for_another_protocol(api: ApiProcess, steady: Steady, token: str) -> None:
    upgrade = head("GET", "/healthz", "Connection: upgrade", "Upgrade: h2c")
    with steady():
        heard = say(api, upgrade + post(token, LENGTH) + BODY)
    refused(heard, 200)


def test_s30_refusals_below_http_speak_as_the_others(api: ApiProcess) -> None:
    heard = say(api, b"GET / HTTP/1.1\r\nno colon here\r\n\r\n")
    assert b"content-type: application/json" in heard.head
    assert b"x-openstack-request-id: req-" in heard.head
    assert b'"heat-workflow.malformed"' in heard.data


def test_s28_a_body_one_byte_too_long_is_refused(api: ApiProcess, steady: Steady, operator: Operator) -> None:
    start, end = b'{"name":"w","x":"', b'"}'
    for too_long, status in ((0, 422), (1, 413)):
        body = start + b"a" * (MEBIBYTE + too_long - len(start) - len(end)) + end
        with steady():
            answer = operator.call("POST", "/v1/workflows", data=body, headers={"Content-Type": "application/json"})
        assert (len(body), answer.status_code) == (MEBIBYTE + too_long, status)


def test_s28_an_endless_body_ends_at_the_limit(api: ApiProcess, steady: Steady, token: str) -> None:
    piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    say(api, post(token, CHUNKED), itertools.repeat(piece, 32), patience=2)  # what the first one needs stays
    before = resident_bytes(api)
    with steady():
        heard = say(api, post(token, CHUNKED), _until_cut(piece))
    assert heard.statuses in ([413], []), "the answer, or a connection that was cut while it was on its way"
    assert heard.closed
    assert resident_bytes(api) - before < 8 * MEBIBYTE


def _until_cut(piece: bytes) -> Iterator[bytes]:
    """As much as a gibibyte; the API ends it long before."""
    began = time.monotonic()
    for _ in range(16384):
        assert time.monotonic() - began < 20, "still reading"
        yield piece


def test_s28_a_body_too_long_without_its_length_is_answered(api: ApiProcess, steady: Steady, token: str) -> None:
    piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    with steady():
        heard = say(api, post(token, CHUNKED, CLOSE) + piece * 17 + b"0\r\n\r\n")
    assert heard.statuses == [413]


def test_s28_a_length_that_is_too_short_is_refused(api: ApiProcess, steady: Steady, token: str) -> None:
    with steady():
        refused(say(api, post(token, "Content-Length: 5") + BODY), 400)


def test_s28_a_length_that_is_too_long_changes_nothing(api: ApiProcess, steady: Steady, token: str) -> None:
    with steady(), socket.create_connection(("127.0.0.1", api.port), timeout=5) as peer:
        peer.sendall(post(token, f"Content-Length: {len(BODY) + 1}") + BODY)
        peer.shutdown(socket.SHUT_WR)
        assert listen(peer).statuses in ([], [400])
    assert say(api, head("GET", "/healthz", CLOSE)).statuses == [200]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity"])
def test_s28_compressed_bodies_are_refused_unread(
    api: ApiProcess, steady: Steady, operator: Operator, coding: str
) -> None:
    bomb = gzip.compress(b'{"name":"' + b"a" * 100 * MEBIBYTE + b'"}', 1)
    before = resident_bytes(api)
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    with steady():
        answer = operator.call("POST", "/v1/workflows", data=bomb[: MEBIBYTE // 2], headers=headers)
    assert answer.status_code == 415
    assert resident_bytes(api) - before < 8 * MEBIBYTE


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "*/*"])
def test_s28_a_body_of_another_type_is_refused(steady: Steady, operator: Operator, media: str) -> None:
    with steady():
        answer = operator.call("POST", "/v1/workflows", data=BODY, headers={"Content-Type": media})
    assert answer.status_code == 415


def test_s29_large_heads_are_refused(api: ApiProcess, steady: Steady, token: str) -> None:
    with steady():
        refused(say(api, post(token, LENGTH, f"X-A: {'a' * 65536}") + BODY), 431)
        refused(say(api, post(token, LENGTH, f"X-A: {'a' * 16384}") + BODY), 431)
        refused(say(api, post(token, LENGTH, *(f"X-{n}: a" for n in range(10_000))) + BODY), 431)
        for length in (4097, 9000, 100_000):
            refused(say(api, head("GET", "/" + "a" * length)), 414)
        refused(say(api, head("GET", "/v1/workflows?name=" + "a" * 5000, token=token)), 414)
    assert say(api, head("GET", "/", f"X-A: {'a' * 15000}", CLOSE)).statuses == [200]


def test_s29_an_endless_head_ends_at_the_limit(api: ApiProcess) -> None:
    before = resident_bytes(api)
    heard = say(api, b"GET / HTTP/1.1\r\nX-A: ", _until_cut(b"a" * 65536))
    assert heard.statuses in ([431], [])
    heard = say(api, b"GET /", _until_cut(b"a" * 65536))
    assert heard.statuses in ([414], [])
    assert resident_bytes(api) - before < 8 * MEBIBYTE


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "CONNECT", "PROPFIND"])
def test_s59_other_methods_do_nothing_here(steady: Steady, operator: Operator, method: str) -> None:
    workflow_id = operator.workflow()
    with steady():
        for path in ("/", "/v1/workflows", f"/v1/workflows/{workflow_id}"):
            answer = operator.call(method, path, headers={"Origin": "https://elsewhere"})
            assert answer.status_code in (400, 405)
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_s59_a_method_in_a_header_is_not_believed(steady: Steady, operator: Operator) -> None:
    workflow_id = operator.workflow()
    override = {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE"}
    with steady():
        answer = operator.call("GET", f"/v1/workflows/{workflow_id}", headers=override, params={"wait": "0"})
        assert answer.status_code == 200
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = operator.call("POST", "/v1/workflows", data="_method=DELETE&name=w", headers=form)
        assert answer.status_code == 415


def test_s59_a_405_names_every_method_of_its_path(operator: Operator) -> None:
    answer = operator.call("TRACE", f"/v1/workflows/{operator.workflow()}")
    assert set(answer.headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "PATCH", "PUT"}


def test_s59_a_page_elsewhere_gets_no_leave_to_read(operator: Operator) -> None:
    answer = operator.call("GET", "/v1/workflows", headers={"Origin": "https://elsewhere"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/json"
