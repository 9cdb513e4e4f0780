# SPDX-License-Identifier: Apache-2.0
"""The client against a real HTTP server: what it sends, and how it reads refusals and silence."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from keystoneauth1 import session, token_endpoint

from heat_workflow import errors
from heat_workflow.client import Client, stack_workflow_id

WORKFLOW = "11111111-1111-4111-8111-111111111111"
TASK = "22222222-2222-4222-8222-222222222222"


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of ``answers`` and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.asked: list[tuple[str, str, dict[str, str], Any, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        self.server.asked.append((self.command, parts.path, dict(parse_qsl(parts.query)), body, dict(self.headers)))
        status, content, headers = self.server.answers.pop(0)
        text = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _answer

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server) -> Client:
    return client_of(server.url)


def client_of(url: str) -> Client:
    authenticated = session.Session(auth=token_endpoint.Token(url, "the-token"))
    return Client(authenticated, global_request_id="req-33333333-3333-4333-8333-333333333333")


def refusal(status: int, detail: str, code: str) -> dict[str, Any]:
    return {"errors": [{"status": status, "code": code, "title": "No", "detail": detail, "request_id": "req-1"}]}


def test_a_put_sends_token_request_id_and_body(server: Server, client: Client) -> None:
    server.answers = [(201, {"id": TASK, "state": "ready"}, {})]
    assert client.put_task(WORKFLOW, TASK, {"name": "a"})["state"] == "ready"
    ((method, path, query, body, headers),) = server.asked
    assert (method, path, query) == ("PUT", f"/v1/workflows/{WORKFLOW}/tasks/{TASK}", {})
    assert body == {"name": "a"}
    assert headers["X-Auth-Token"] == "the-token"
    assert headers["X-OpenStack-Request-ID"] == "req-33333333-3333-4333-8333-333333333333"


def test_a_long_poll_says_how_long(server: Server, client: Client) -> None:
    server.answers = [(200, {"state": "succeeded"}, {})]
    client.get_task(WORKFLOW, TASK, wait=5, reveal=True)
    assert server.asked[0][2] == {"wait": "5", "reveal": "true"}


def test_a_list_goes_on_to_the_last_page(server: Server, client: Client) -> None:
    server.answers = [
        (200, {"agents": [{"id": "a"}, {"id": "b"}], "next_marker": "b"}, {}),
        (200, {"agents": [{"id": "c"}], "next_marker": None}, {}),
    ]
    assert [agent["id"] for agent in client.list_agents(state="active")] == ["a", "b", "c"]
    assert [asked[2] for asked in server.asked] == [{"state": "active"}, {"state": "active", "marker": "b"}]


def test_a_delete_without_content_is_done(server: Server, client: Client) -> None:
    server.answers = [(204, None, {})]
    client.delete_task(WORKFLOW, TASK)
    assert server.asked[0][0] == "DELETE"


def test_a_strange_id_stays_one_part_of_the_path(server: Server, client: Client) -> None:
    server.answers = [(404, refusal(404, "unknown", "not-found"), {})]
    with pytest.raises(errors.NotFound):
        client.get_agent("../workflows?x=1")
    assert server.asked[0][1] == "/v1/agents/..%2Fworkflows%3Fx%3D1"


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, errors.Malformed),
        (401, errors.Unauthenticated),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (413, errors.TooLarge),
        (415, errors.UnsupportedMedia),
        (422, errors.Invalid),
        (429, errors.TooMany),
        (503, errors.Unavailable),
    ],
)
def test_a_refusal_is_raised_as_its_family_with_the_apis_words(
    server: Server, client: Client, status: int, family: type[errors.HeatWorkflowError]
) -> None:
    server.answers = [(status, refusal(status, "task 7: says why", "a-code"), {"Retry-After": "7"})]
    with pytest.raises(family) as raised:
        client.get_task(WORKFLOW, TASK)
    assert type(raised.value) is family
    assert (raised.value.detail, raised.value.code, raised.value.retry_after) == ("task 7: says why", "a-code", 7.0)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_answer_that_is_not_the_apis_own_is_unavailable(server: Server, client: Client, status: int) -> None:
    server.answers = [(status, b"<html>try later</html>", {})]
    with pytest.raises(errors.Unavailable, match=f"GET /v1/workflows/{WORKFLOW}: HTTP {status} "):
        client.get_workflow(WORKFLOW)


def test_an_answer_that_is_no_family_names_itself(server: Server, client: Client) -> None:
    server.answers = [(500, refusal(500, "the API failed; its log says more under req-1", "error"), {})]
    with pytest.raises(errors.HeatWorkflowError, match="its log says more under req-1"):
        client.get_workflow(WORKFLOW)


def test_an_api_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match="the tasks API cannot be reached"):
            client_of(url).get_health()


def test_the_workflow_of_a_stack_never_changes_its_id() -> None:
    root = "701db564-39ea-4bb1-8bd4-2e1af16d3ae2"
    assert stack_workflow_id(root) == stack_workflow_id(root)
    assert stack_workflow_id(root) == "6ba05c45-810d-5eb9-a370-412fa2b0f4c7"
