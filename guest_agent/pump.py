# SPDX-License-Identifier: Apache-2.0
"""What a hook writes, kept within bounds: the head, the tail, how much there was, its digest."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import Any, Optional

HEAD = 8 * 1024
TAIL = 56 * 1024
CHUNK = 64 * 1024


class Capture:
    """One stream. It holds at most HEAD + TAIL + CHUNK bytes whatever is written, and what ``whole`` allows."""

    def __init__(self, whole: int = 0, tee: Optional[Callable[[bytes], None]] = None) -> None:
        """Up to ``whole`` bytes are kept besides as they came; a longer stream is not. ``tee`` gets all bytes too."""
        self.total = 0
        self.fed_at = 0.0
        self._tee = tee
        self._whole: bytearray | None = bytearray() if whole else None
        self._whole_limit = whole
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        self.fed_at = time.monotonic()
        self._digest.update(data)
        if self._tee is not None:
            self._tee(data)
        if self._whole is not None:
            self._whole += data
            if len(self._whole) > self._whole_limit:
                self._whole = None
        if len(self._head) < HEAD:
            room = HEAD - len(self._head)
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > TAIL:
            del self._tail[:-TAIL]

    @property
    def truncated(self) -> bool:
        """Whether something between head and tail is missing."""
        return self.total > HEAD + TAIL

    def whole(self) -> bytes | None:
        """All that was written, None when it was more than was to be kept."""
        return None if self._whole is None else bytes(self._whole)

    def text(self) -> str:
        """The text as written if it fits, else head and tail with a line between them that says what is missing.

        Bytes that are no UTF-8, and NUL (no store takes it), show as U+FFFD.
        """
        if not self.truncated:
            return _decode(bytes(self._head + self._tail))
        missing = self.total - HEAD - TAIL
        head = _without_torn_end(bytes(self._head))
        tail = bytes(self._tail)
        while tail and len(tail) > TAIL - 3 and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
        return f"{_decode(head)}\n[... {missing} bytes left out ...]\n{_decode(tail)}"

    def info(self) -> dict[str, Any]:
        """The facts about the whole stream."""
        return {"total_bytes": self.total, "sha256": self._digest.hexdigest(), "truncated": self.truncated}


def latest_first(*streams: Capture) -> list[Capture]:
    """The streams, the one that was written to last before the others."""
    return sorted(streams, key=lambda stream: stream.fed_at, reverse=True)


class Pump:
    """Moves what comes through pipes into captures, never blocking."""

    def __init__(self, captures: dict[int, Capture]) -> None:
        """``captures`` by descriptor; the descriptors become the pump's own."""
        self._captures = dict(captures)
        for fd in captures:
            os.set_blocking(fd, False)

    @property
    def fds(self) -> list[int]:
        """The pipes somebody may still write to."""
        return list(self._captures)

    def move(self, fd: int) -> None:
        """Take one chunk from the pipe; at its end close it."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._captures[fd].feed(data)
            return
        os.close(fd)
        del self._captures[fd]


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _without_torn_end(data: bytes) -> bytes:
    """Without the first bytes of a character whose rest was left out."""
    for back in range(1, min(4, len(data)) + 1):
        lead = data[-back]
        if lead & 0xC0 != 0x80:
            needed = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return data[:-back] if needed > back else data
    return data
