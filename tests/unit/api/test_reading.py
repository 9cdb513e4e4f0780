# SPDX-License-Identifier: Apache-2.0
"""Reading: bodies are counted while they arrive, and waited for only so long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from heat_workflow import errors
from heat_workflow.api.reading import BODY_MOST, read_body


def request(*pieces: bytes, length: str | None = None, end: str = "whole") -> Request:
    headers = [] if length is None else [(b"content-length", length.encode())]
    messages: list[Any] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if end == "whole":
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    elif end == "cut":
        messages.append({"type": "http.disconnect"})

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return Request({"type": "http", "headers": headers}, receive)


async def test_a_body_is_put_together() -> None:
    assert await read_body(request(b"ab", b"", b"c")) == b"abc"


async def test_a_body_of_the_largest_size_is_read() -> None:
    assert len(await read_body(request(b"a" * BODY_MOST, length=str(BODY_MOST)))) == BODY_MOST


async def test_a_length_that_is_too_large_is_refused_before_reading() -> None:
    with pytest.raises(errors.TooLarge):
        await read_body(request(length=str(BODY_MOST + 1), end="silence"))


async def test_a_body_that_grows_too_large_is_refused_while_it_arrives() -> None:
    with pytest.raises(errors.TooLarge):
        await read_body(request(b"a" * BODY_MOST, b"a", end="silence"))


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with pytest.raises(errors.Malformed) as refused:
        await read_body(request(b"a", end="silence"), seconds=0.05)
    assert refused.value.code == "body-timeout"


async def test_a_body_that_is_cut_off_is_no_body() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(request(b"a", end="cut"))
