# SPDX-License-Identifier: Apache-2.0
"""Harness: polls held over a socket of one's own, and the moment at which they are held."""

from __future__ import annotations

import http.client
import json
import re
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import requests

from tests.harness.callers import SimulatedAgent

_GAUGE = re.compile(r"^heat_workflow_waiting_polls (\d+)", re.MULTILINE)


def waiting_polls(url: str) -> int:
    """How many polls the process holds."""
    found = _GAUGE.search(requests.get(f"{url}/metrics", timeout=10).text)
    assert found is not None
    return int(float(found[1]))


def until(condition: Callable[[], bool], patience: float = 20) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def is_readable(fd: int, seconds: float) -> bool:
    """Whether there is something to read, waiting for it for a while; whatever the descriptor's number."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def opened(port: int, agent: SimulatedAgent, method: str, path: str, body: Any) -> socket.socket:
    """A connection on which the agent's request was sent and its answer is still to come."""
    content = json.dumps(body).encode()
    lines = [f"{method} /agent/v1{path} HTTP/1.1", "Host: api", f"Authorization: Bearer {agent.bearer}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
    peer = socket.create_connection(("127.0.0.1", port), timeout=20)
    peer.sendall("\r\n".join(lines).encode() + content)
    return peer


def heard(peer: socket.socket) -> bytes:
    """All that comes until the API ends the connection."""
    parts = bytearray()
    with peer:
        while part := peer.recv(65536):
            parts += part
    return bytes(parts)


def answered(peer: socket.socket) -> tuple[int, bytes]:
    """Status and body of the one answer that comes on a connection that is kept."""
    answer = http.client.HTTPResponse(peer)
    answer.begin()
    return answer.status, answer.read()
