# SPDX-License-Identifier: Apache-2.0
"""Harness: a TCP proxy that does to connections what networks do: cuts them after so many bytes, or at a word."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

_PIECE = 65536


class ChaosProxy:
    """Stands before a port, on a loop and thread of its own. What is armed happens once, to the next to come by it."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._answer_after: int | None = None
        self._request_after: int | None = None
        self._word: tuple[bytes, bool] | None = None
        self._lost: frozenset[str] = frozenset()
        self.waiting = 0  # pieces held back by a partition since it began
        self.port = 0
        self.cuts = 0
        self.answered = 0  # bytes of the last connection's answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_answer(self, after: int) -> None:
        """Let so many bytes of the next connection's answer through, then cut; the request gets there."""
        self._answer_after = after

    def cut_request(self, after: int) -> None:
        """Let so many bytes of the next connection's request through, then cut."""
        self._request_after = after

    def cut_at(self, word: bytes, *, heard: bool) -> None:
        """Cut the next connection whose client says the word: before the server hears it, or in place of an answer."""
        self._word = (word, heard)

    @contextlib.contextmanager
    def partitioned(self, *ways: str) -> Iterator[None]:
        """For the time of the block nothing gets through: requests (``there``), answers (``back``), or both.

        Connections stay open and are accepted, as behind a cable that was cut; what is still wanted when the block
        ends gets through then, as by TCP.
        """
        self._lost, self.waiting = frozenset(ways or ("there", "back")), 0
        try:
            yield
        finally:
            self._lost = frozenset()

    @contextlib.contextmanager
    def running(self) -> Iterator[ChaosProxy]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="chaos-proxy", daemon=True)
        thread.start()

        def call(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(10)

        server: asyncio.Server = call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(server.close)  # an asyncio server is closed in its own thread
            call(_end_others())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        deaf = asyncio.Event()
        both = [
            asyncio.create_task(self._pass(reader, there_writer, self._heard(deaf), "there")),
            asyncio.create_task(self._pass(there_reader, writer, self._said(deaf), "back")),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for one in (writer, there_writer):
                one.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        allowed: Callable[[bytes], int | None],
        way: str,
    ) -> None:
        """Hand on what comes until ``allowed`` gives a number: of the bytes that still get through."""
        while data := await reader.read(_PIECE):
            if way in self._lost:
                self.waiting += 1
            while way in self._lost:
                await asyncio.sleep(0.01)
            most = allowed(data)
            writer.write(data if most is None else data[:most])
            await writer.drain()
            if most is not None:
                self.cuts += 1
                await asyncio.sleep(0.01)  # an abort must not overtake what was let through
                return

    def _heard(self, deaf: asyncio.Event) -> Callable[[bytes], int | None]:
        """Judges what the client says."""
        passed, most = 0, self._request_after
        self._request_after = None

        def allowed(data: bytes) -> int | None:
            nonlocal passed
            passed += len(data)
            if most is not None and passed > most:
                return max(0, len(data) - (passed - most))
            if self._word is not None and self._word[0] in data:
                (_, heard), self._word = self._word, None
                if not heard:
                    return 0
                deaf.set()
            return None

        return allowed

    def _said(self, deaf: asyncio.Event) -> Callable[[bytes], int | None]:
        """Judges what the server says."""
        passed, most = 0, self._answer_after
        self._answer_after = None

        def allowed(data: bytes) -> int | None:
            nonlocal passed
            passed += len(data)
            self.answered = passed
            if deaf.is_set():
                return 0
            if most is not None and passed > most:
                return max(0, len(data) - (passed - most))
            return None

        return allowed


async def _end_others() -> None:
    await asyncio.sleep(0.01)  # a connection accepted just now gets to its handler, which closes it
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.01)  # and what was aborted is closed
