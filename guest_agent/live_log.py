# SPDX-License-Identifier: Apache-2.0
"""What a hook writes, while it writes it: numbered chunks that the shim puts into a file and the agent sends on.

The number of a chunk is that of its line, so an agent that was restarted sends what it sent before under the same
number. At most 1 MiB of an attempt is kept. The outcome of the task never depends on any of this.
"""

from __future__ import annotations

import codecs
import json
import os
import time
from collections.abc import Callable
from typing import Any

from guest_agent.folder import Folder

LOG_FILE = "log"
KEPT_MOST = 1_000_000  # bytes of text of one attempt
CHUNK_MOST = 16 * 1024
DELAY = 0.25
FULL = "\n[... the log is full, the rest is left out ...]\n"

Chunk = dict[str, Any]


class LogWriter:
    """The shim's end. What comes within a moment goes into one chunk; a disk that fails ends the log, nothing else."""

    def __init__(self, run: Folder) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(LOG_FILE, flags, 0o600, dir_fd=run.fd)
        self._pending: dict[str, str] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._count, written = _written(run)
        self._room = KEPT_MOST - written
        self._due = float("inf")

    def taker(self, stream: str) -> Callable[[bytes], None]:
        """What takes the bytes of that stream."""
        self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda data: self._take(stream, data)

    def seconds_left(self) -> float:
        """How long until something is due to be written."""
        return max(0.0, self._due - time.monotonic())

    def write(self, *, due_only: bool = True) -> None:
        """Write what is due, or all there is."""
        if due_only and time.monotonic() < self._due:
            return
        self._due = float("inf")
        for stream in list(self._pending):
            self._put(stream, self._pending.pop(stream))

    def _take(self, stream: str, data: bytes) -> None:
        if self._room <= 0:
            return
        text = self._decoders[stream].decode(data).replace("\0", "\N{REPLACEMENT CHARACTER}")
        held = self._pending.get(stream, "") + text
        while len(held) >= CHUNK_MOST:
            self._put(stream, held[:CHUNK_MOST])
            held = held[CHUNK_MOST:]
        if held:
            self._pending[stream] = held
            self._due = min(self._due, time.monotonic() + DELAY)

    def _put(self, stream: str, text: str) -> None:
        if self._room <= 0 or not text:
            return
        data, room = text.encode(), self._room
        self._room -= len(data)
        if self._room <= 0:
            text = data[:room].decode("utf-8", "ignore") + FULL
        line = json.dumps({"n": self._count, "stream": stream, "text": text}) + "\n"
        try:
            whole = os.write(self._fd, line.encode()) == len(line)
            self._room = self._room if whole else 0
            self._count += 1
        except OSError:
            self._room = 0


def _written(run: Folder) -> tuple[int, int]:
    """Chunks and bytes that an earlier start of the attempt has left in the file."""
    data = run.read(LOG_FILE, 16 * KEPT_MOST)
    return data.count(b"\n"), len(data)


class LogReader:
    """The agent's end: the chunks that are in the file, from the first on."""

    def __init__(self, run: Folder) -> None:
        self._run = run
        self._offset = 0
        self._rest = b""

    def next_chunks(self, most: int, bytes_most: int) -> list[Chunk]:
        """Some of those not read yet; none while there are none."""
        if not self._rest.count(b"\n"):
            self._read()
        found: list[Chunk] = []
        size = 0
        while len(found) < most:
            line, end, rest = self._rest.partition(b"\n")
            if not end or (found and size + len(line) > bytes_most):
                break
            found.append(json.loads(line))
            size += len(line)
            self._rest = rest
        return found

    def _read(self) -> None:
        try:
            with self._run.opened(LOG_FILE) as (fd, _facts):
                part = os.pread(fd, 1 << 18, self._offset)
        except OSError:
            return
        self._offset += len(part)
        self._rest += part
