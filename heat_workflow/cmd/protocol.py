# SPDX-License-Identifier: Apache-2.0
"""Protocol: uvicorn's HTTP/1.1 with an end to what a peer may keep open, and our errors for what it refuses.

llhttp underneath refuses what two servers could read in two ways (both lengths, folded lines, bare LF, a blank before
the colon). What it leaves open is how long a head may grow and how long it may take, how much framing a body may have,
and how long a peer may leave an answer unread.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from heat_workflow.api import guard
from heat_workflow.api.problems import TITLES, error_response
from heat_workflow.cmd.room import Room

LOG = logging.getLogger(__name__)
_HEAD_MOST = guard.URL_MOST + guard.HEADERS_MOST
_FRAMING_MOST = 64 * 1024  # bytes of chunk heads and trailers, besides as many as the body has


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    head_seconds = 30.0  # from the first byte, or the start of the connection, to the end of the headers
    linger_seconds = 5.0  # for the rest of a body that was answered already, so that the peer can read the answer
    drain_seconds = 30.0  # in which a peer takes ``drain_least`` of an answer, or all that is left of it
    drain_least = 64 * 1024
    room: Room | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""
        self._head_bytes: int | None = 0  # of the head that is arriving; None while none is
        self._in_message = False
        self._deadline: asyncio.TimerHandle | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._wire_bytes = self._body_bytes = 0  # of the message that is arriving, after its head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._close_in(self.head_seconds)
        if self.room is not None:
            self.room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._stop_watching()
        if self.room is not None:
            self.room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        else:
            self._wire_bytes += len(data)
        super().data_received(data)
        if self._in_message and self._wire_bytes > 2 * self._body_bytes + _FRAMING_MOST:
            self._refuse(400, "malformed", "the body has more framing than content")
        # Counted from the second piece on: the first may hold the end of the request before.
        if self._head_bytes is not None and self._head_bytes > _HEAD_MOST and not self.transport.is_closing():
            self._refuse(*(self._url_problem() or guard.headers_too_large()))
        self._keep_a_deadline()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = True
        self._head_bytes = 0
        self._close_in(self.head_seconds)

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._wire_bytes = self._body_bytes = 0
        self._forget_deadline()
        if self.room is not None:
            self.room.busy(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._forget_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_drain()
        elif self._in_message:
            self._close_in(self.linger_seconds)
        if self.room is not None and self.cycle.response_complete:
            self.room.idle(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_drain()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watching()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_drain()

    def make_room(self, busy: bool) -> None:
        """Called by the room when there is no more of it."""
        if busy:
            self._refuse(503, "no-room", "every connection that this process may keep is in use; come back")
        else:
            self.transport.abort()

    def _watch_drain(self) -> None:
        """See that what is written is read: it stands in memory until then."""
        left = self.transport.get_write_buffer_size()
        if left and self._drain is None:
            self._drain = self.loop.call_later(self.drain_seconds, self._look_at_drain, left)

    def _look_at_drain(self, before: int) -> None:
        self._drain = None
        left = self.transport.get_write_buffer_size()
        if left and before - left < self.drain_least:
            LOG.warning("A connection is ended: %d bytes of an answer were not read in %g s", left, self.drain_seconds)
            self.transport.abort()
        else:
            self._watch_drain()

    def _stop_watching(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None

    def send_400_response(self, msg: str) -> None:
        """Called for what the parser refuses."""
        self._refuse(*(self._url_problem() or (400, "malformed", "this is not HTTP/1.1")))

    def _url_problem(self) -> tuple[int, str, str] | None:
        return guard.url_too_long() if len(self.url) > guard.URL_MOST else None

    def _unsupported_upgrade_warning(self) -> None:
        """Called for a request that wants another protocol: it is answered, then the connection ends."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer unless another answer is under way, and close."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            answer = error_response(status, code, detail, headers={"Connection": "close"})
            head = [f"HTTP/1.1 {status} {TITLES[status]}".encode()]
            head += [name + b": " + value for name, value in answer.raw_headers]
            self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    def _keep_a_deadline(self) -> None:
        """Bytes between two requests end uvicorn's own wait for the next one: wait for it here."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if not (answering or self._in_message or self._deadline or self.timeout_keep_alive_task):
            self._close_in(self.timeout_keep_alive)

    def _close_in(self, seconds: float) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        self.transport.close()
        self._watch_drain()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
