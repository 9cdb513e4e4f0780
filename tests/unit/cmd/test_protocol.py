# SPDX-License-Identifier: Apache-2.0
"""Protocol: a connection that keeps the server waiting is ended; one that does not is not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from heat_workflow.cmd.protocol import BoundedProtocol
from heat_workflow.cmd.room import Room

SOON = 0.3


class Hasty(BoundedProtocol):
    head_seconds = SOON
    linger_seconds = SOON
    drain_seconds = SOON


LARGE = 16 * 1024 * 1024


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, without looking at the body; below /read it reads the body first."""
    if scope["path"] == "/read":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * SOON)
    if scope["path"] in ("/large", "/stream"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(LARGE // 65536 if scope["path"] == "/stream" else 0):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b"x" * LARGE if scope["path"] == "/large" else b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def connected(
    http: type[BoundedProtocol] = Hasty,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(
        application, port=0, http=http, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1
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


@pytest.mark.parametrize("path", ["/large", "/stream"])
async def test_s70_an_answer_that_is_not_read_ends_with_its_connection(path: str) -> None:
    async with connected() as (_, writer):
        peer = writer.get_extra_info("socket")
        with socket.create_connection(peer.getpeername(), timeout=10) as silent:
            silent.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await asyncio.sleep(5 * SOON)
            heard = await asyncio.to_thread(read_until_the_end, silent)
    assert heard < LARGE


def read_until_the_end(peer: socket.socket) -> int:
    total = 0
    with contextlib.suppress(ConnectionResetError):
        while part := peer.recv(1 << 20):
            total += len(part)
    return total


@pytest.mark.parametrize("path", ["/large", "/stream"])
async def test_an_answer_that_is_read_slowly_arrives(path: str) -> None:
    async with connected() as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        total = 0
        while part := await asyncio.wait_for(reader.read(1 << 20), 10):
            total += len(part)
            await asyncio.sleep(SOON / 10)
    assert total > LARGE


async def test_s66_a_body_of_framing_alone_is_refused() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        drip = asyncio.ensure_future(trail(writer))
        with contextlib.suppress(ConnectionResetError):  # what it still says is not read
            heard, _ = await ended(reader)
            assert heard == b"" or heard.startswith(b"HTTP/1.1 400 ")
        drip.cancel()


async def trail(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x-trailer: y\r\n" * 4096)
            await writer.drain()


async def test_s81_idle_connections_make_room_for_one_that_asks() -> None:
    class Small(BoundedProtocol):
        room = Room(20)

    async with connected(Small) as (reader, writer):
        port = writer.get_extra_info("socket").getpeername()[1]
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")  # the first to come is the first to go
        assert await reader.read() == b""
        new_reader, new_writer = await asyncio.open_connection("127.0.0.1", port)
        new_writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await new_reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert Small.room.ended == 82
        for _, other in [*idle, (new_reader, new_writer)]:
            other.close()


async def test_s81_connections_that_wait_are_kept_and_the_newest_is_told() -> None:
    class Small(BoundedProtocol):
        room = Room(2)

    async with connected(Small) as (reader, writer):
        port = writer.get_extra_info("socket").getpeername()[1]
        busy = [(reader, writer), await asyncio.open_connection("127.0.0.1", port)]
        for _, one in busy:
            one.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(SOON)
        new_reader, new_writer = await asyncio.open_connection("127.0.0.1", port)
        refused, _ = await ended(new_reader)
        new_writer.close()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert [(await one.readline())[:13] for one, _ in busy] == [b"HTTP/1.1 200 "] * 2
        busy[1][1].close()
