# SPDX-License-Identifier: Apache-2.0
"""Protocol: a connection that keeps the server waiting is ended; one that does not is not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from heat_workflow.cmd.protocol import BoundedProtocol

SOON = 0.3


class Hasty(BoundedProtocol):
    head_seconds = SOON
    linger_seconds = SOON


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, without looking at the body; below /read it reads the body first."""
    if scope["path"] == "/read":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * SOON)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(
        application, port=0, http=Hasty, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await server.shutdown()


async def ended(reader: asyncio.StreamReader) -> tuple[bytes, float]:
    """What was said until the end of the connection, and how long that took."""
    began = time.monotonic()
    heard = await asyncio.wait_for(reader.read(), 10)
    return heard, time.monotonic() - began


async def test_a_connection_without_a_word_is_ended() -> None:
    async with connected() as (reader, _):
        heard, took = await ended(reader)
    assert heard == b""
    assert took < 5 * SOON


async def test_a_head_that_drips_is_ended() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
        drip = asyncio.ensure_future(_drip(writer))
        heard, took = await ended(reader)
        drip.cancel()
    assert heard == b""
    assert took < 5 * SOON


async def _drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"a")
            await asyncio.sleep(SOON / 10)


async def test_a_body_that_drips_after_its_answer_is_ended() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        assert b"ok" in await reader.readuntil(b"ok")
        drip = asyncio.ensure_future(_drip(writer))
        _, took = await ended(reader)
        drip.cancel()
    assert took < 5 * SOON


async def test_the_rest_of_a_body_may_follow_its_answer() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        await reader.readuntil(b"ok")
        writer.write(b"cde")
        await asyncio.sleep(2 * SOON)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"ok"), 5)


async def test_blank_lines_between_requests_hold_no_connection() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"ok")
        writer.write(b"\r\n")
        _, took = await ended(reader)
    assert took < 5


async def test_an_answer_may_take_longer_than_a_head() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"ok"), 5)


async def test_requests_in_one_piece_are_answered_in_order() -> None:
    async with connected() as (reader, writer):
        body = b"a" * 30_000  # more than a head may hold
        post = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + body
        writer.write(post + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + post)
        for _ in range(3):
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"ok"), 5)
