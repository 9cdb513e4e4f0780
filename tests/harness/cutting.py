# SPDX-License-Identifier: Apache-2.0
"""Harness: a TCP proxy that cuts a connection at a word, which then got through unanswered or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import sqlalchemy as sa

from heat_workflow.store import Store
from tests.harness.stores import Database


class CuttingProxy:
    """Stands between a client and a server; ``arm`` makes it cut once."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._words: tuple[bytes, bytes] | None = None
        self._after = False
        self.cuts = 0
        self.port = 0

    def arm(self, first: bytes, word: bytes, after: bool) -> None:
        """Cut the next connection on which the client says ``first`` and then ``word``: in place of the answer
        (``after``), or before the server hears it."""
        self._words, self._after = (first, word), after

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[CuttingProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        cut = asyncio.Event()
        both = [
            asyncio.create_task(self._ask(reader, there_writer, cut)),
            asyncio.create_task(self._answer(there_reader, writer, cut)),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for one in (writer, there_writer):
            one.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        primed = False
        while data := await reader.read(65536):
            if self._words is not None:
                primed = primed or self._words[0] in data
                if primed and self._words[1] in data:
                    self._words = None
                    self.cuts += 1
                    if not self._after:
                        return
                    cut.set()
            writer.write(data)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if cut.is_set():
                return
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def replica_behind(database: Database) -> AsyncIterator[tuple[CuttingProxy, Store]]:
    """A replica that reaches the database through a proxy."""
    url = sa.make_url(database.url)
    assert url.port is not None
    async with CuttingProxy(url.port).running() as proxy:
        through = url.set(port=proxy.port).render_as_string(hide_password=False)
        async with Database(through, database.key_file).replica() as (store, _):
            yield proxy, store
