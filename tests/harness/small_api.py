# SPDX-License-Identifier: Apache-2.0
"""Harness: a small API server for one agent; it answers as a test tells it, also what the real one never would."""

from __future__ import annotations

import json
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.harness.machine import wait_for

Wire = dict[str, Any]


def wire_task(config: Any = "", **fields: Any) -> Wire:
    """A claimed task as it comes over the wire; keywords replace fields, also those of the definition."""
    definition: Wire = {"group": "script", "config": config, "options": {}, "inputs": [], "outputs": []}
    for name in list(definition):
        definition[name] = fields.pop(name, definition[name])
    return {
        "id": str(uuid.uuid4()),
        "workflow_id": str(uuid.uuid4()),
        "name": "web/0/app",
        "action": "CREATE",
        "attempt": 1,
        "claim_id": str(uuid.uuid4()),
        "lease": 60,
        "timeout": None,
        "deadline_in": None,
        "definition": definition,
        "input_values": {},
        "hidden_inputs": [],
        "hidden_outputs": [],
        "environment_inputs": [],
        "server": "s1",
        **fields,
    }


@dataclass
class Call:
    """One request the API has got."""

    method: str
    name: str
    path: str
    token: str
    body: Wire


@dataclass
class Api:
    """A server for one agent: gives out the tasks queued, keeps calls and reports; ``answers`` overrides by name."""

    url: str = ""
    tasks: queue.Queue[Wire] = field(default_factory=queue.Queue)
    calls: list[Call] = field(default_factory=list)
    reports: dict[str, Wire] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    answers: dict[str, Callable[[Call], tuple[int, Wire | None]]] = field(default_factory=dict)
    claims: dict[str, Wire] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, call: Call) -> tuple[int, Wire | None]:
        """The status and the body for a call."""
        self.calls.append(call)
        if call.name in self.answers:
            return self.answers[call.name](call)
        if call.name == "hello":
            return 200, {"agent_id": "a", "heartbeat_interval": 2, "max_wait": 2}
        if call.name == "heartbeat":
            return 200, {"lease": 60, "cancel": call.path.split("/")[-2] in self.cancelled, "grace": 10}
        if call.name == "claim":
            task = self.claim(call.body["claim_id"], float(call.body["wait"]))
            return (200, {"task": task, "reports": []}) if task else (204, None)
        if call.name == "report":
            claim = call.body.pop("claim", None)
            self.reports[call.path.split("/")[-2]] = call.body
            task = self.claim(claim["claim_id"], 0) if claim else None
            return 200, {"state": call.body["status"], "task": task}
        return 201, {"agent_id": "a", "state": "active"}

    def claim(self, claim_id: str, wait: float) -> Wire | None:
        """The task of that claim, the same again when it is repeated."""
        with self.lock:
            if claim_id in self.claims:
                return self.claims[claim_id]
        try:
            task = self.tasks.get(timeout=wait) if wait else self.tasks.get_nowait()
        except queue.Empty:
            return None
        self.claims[claim_id] = {**task, "claim_id": claim_id}
        return self.claims[claim_id]

    def add(self, task: Wire) -> str:
        """Queue the task; its id."""
        self.tasks.put(task)
        return str(task["id"])

    def report_of(self, task_id: str) -> Wire:
        """The report on the task; waits for it."""
        wait_for(lambda: task_id in self.reports)
        return self.reports[task_id]

    def names(self) -> list[str]:
        """The calls so far, by name."""
        return [call.name for call in self.calls]


@contextmanager
def serving() -> Iterator[Api]:
    """The server, listening."""
    book = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def _serve(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = self.headers["Authorization"].removeprefix("Bearer ")
            call = Call(self.command, self.path.rsplit("/", 1)[-1], self.path, token, body)
            status, answer = book.answer(call)
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status in (302, 307):
                self.send_header("Location", f"{book.url}/elsewhere")
            if status in (429, 503):
                self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """An agent that is killed leaves its connection behind."""

    server = Server(("127.0.0.1", 0), Handler)
    book.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield book
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
