# SPDX-License-Identifier: Apache-2.0
"""Guard: which heads pass, whatever server hands them over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heat_workflow.api import guard


def scope(path: bytes = b"/", query: bytes = b"", version: str = "1.1", **headers: str) -> dict[str, Any]:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "http_version": version,
        "raw_path": path,
        "query_string": query,
        "headers": [(b"host", b"api"), *lines],
    }


def status(**head: Any) -> int:
    refused = guard.find_refusal(scope(**head))
    return 200 if refused is None else refused[0]


def test_an_ordinary_head_passes() -> None:
    assert status(content_length="5", x_auth_token="t" * 8000) == 200
    assert status(transfer_encoding="chunked") == 200


@pytest.mark.parametrize(("length", "expected"), [(guard.URL_MOST, 200), (guard.URL_MOST + 1, 414)])
def test_the_url_with_its_query_is_bounded(length: int, expected: int) -> None:
    assert status(path=b"/" * length) == expected
    assert status(path=b"/", query=b"q" * (length - 1)) == expected


def test_the_headers_are_bounded_together() -> None:
    assert status(x_a="a" * (guard.HEADERS_MOST - 100)) == 200
    assert status(x_a="a" * guard.HEADERS_MOST) == 431
    many = {f"x_{number}": "a" for number in range(3000)}
    assert status(**many) == 431


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "chunked, chunked", "xchunked", ""])
def test_the_only_transfer_coding_is_chunked(coding: str) -> None:
    assert status(transfer_encoding=coding) == 400


def test_http_1_0_has_no_transfer_coding() -> None:
    assert status(version="1.0", transfer_encoding="chunked") == 400
    assert status(version="1.0") == 200


def test_two_hosts_are_refused() -> None:
    assert status(host="other") == 400


async def _never(*_args: Any) -> Any:
    raise AssertionError("the application is asked")


async def test_a_refused_head_does_not_reach_the_application() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await guard.guarded(_never)(scope(path=b"/" * 5000), _never, send)
    start, body = sent
    headers = dict(start["headers"])
    assert (start["status"], headers[b"connection"]) == (414, b"close")
    (error,) = json.loads(body["body"])["errors"]
    assert (error["status"], error["code"]) == (414, "heat-workflow.url-too-long")
    assert error["request_id"] == headers[b"x-openstack-request-id"].decode()


async def test_what_is_no_request_passes() -> None:
    seen: list[str] = []

    async def application(asked: Any, _receive: Any, _send: Any) -> None:
        seen.append(asked["type"])

    await guard.guarded(application)({"type": "lifespan"}, _never, _never)
    assert seen == ["lifespan"]
