# SPDX-License-Identifier: Apache-2.0
"""Raw: bytes on a socket, for requests that no HTTP client would send."""

from __future__ import annotations

import dataclasses
import os
import resource
import socket
from collections.abc import Iterable
from pathlib import Path

from tests.harness.servers import ApiProcess


@dataclasses.dataclass(frozen=True)
class Heard:
    """All that came back. ``closed`` says that the API ended the connection."""

    data: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        return [int(line[9:12]) for line in self.data.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0].lower()


def say(api: ApiProcess, *pieces: bytes | Iterable[bytes], patience: float = 5) -> Heard:
    """Send the pieces, then listen until the API closes or ``patience`` seconds pass without a word."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=patience) as peer:
        try:
            for piece in pieces:
                for part in [piece] if isinstance(piece, bytes) else piece:
                    peer.sendall(part)
        except OSError:
            pass  # refused in the middle: the answer is on its way
        return listen(peer)


def listen(peer: socket.socket) -> Heard:
    """Everything until the API closes, or says nothing for as long as the socket's timeout."""
    heard = b""
    while True:
        try:
            part = peer.recv(65536)
        except TimeoutError:
            return Heard(heard, closed=False)
        except ConnectionResetError:
            return Heard(heard, closed=True)
        if not part:
            return Heard(heard, closed=True)
        heard += part


def resident_bytes(api: ApiProcess) -> int:
    """The memory the API process has in use."""
    pages = int(Path(f"/proc/{api.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def processor_seconds(api: ApiProcess) -> float:
    """The CPU time the API process has used."""
    fields = Path(f"/proc/{api.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def head(method: str, path: str, *lines: str, token: str = "u:p") -> bytes:
    """The head of a request with the lines added."""
    start = [f"{method} {path} HTTP/1.1", "Host: api", f"X-Auth-Token: {token}", "Content-Type: application/json"]
    return "\r\n".join([*start, *lines, "", ""]).encode()
