# SPDX-License-Identifier: Apache-2.0
"""The API client: what it makes of answers, and what it never does (S47, S48)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guest_agent.api_client import ApiClient
from guest_agent.errors import ApiError, Conflict, NotMine, Refused, Revoked, Unauthenticated, Unreachable
from guest_agent.report import failed
from guest_agent.task import Attempt

SECRET = "hwa1.0.secret-canary"


@pytest.fixture
def client(api: Any) -> Iterator[ApiClient]:
    made = ApiClient(api.url, None, lambda: SECRET)
    yield made
    made.close()


def _problem(code: str) -> dict[str, Any]:
    return {"errors": [{"status": 0, "code": code, "title": "t", "detail": "what to do", "request_id": "r"}]}


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, Refused),
        (401, Unauthenticated),
        (403, Refused),
        (404, NotMine),
        (409, Conflict),
        (410, Revoked),
        (413, Refused),
        (422, Refused),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
    ],
)
def test_each_status_has_its_family(api: Any, client: ApiClient, status: int, family: type[ApiError]) -> None:
    api.answers["hello"] = lambda _call: (status, _problem("heat-workflow.some-code"))
    with pytest.raises(family) as caught:
        client.hello({})
    assert type(caught.value) is family
    assert caught.value.code == "some-code"
    assert "what to do" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.retry_after == (7.0 if status in (429, 503) else None)


HEADS = [
    *(f"503 x\r\nRetry-After: {wish}\r\nContent-Length: 2" for wish in ("9" * 5000, "3600", "-1", "nan", "1e9", "")),
    *(f"200 OK\r\nContent-Length: {size}" for size in ("-1", "1e400", "x", "9" * 30, "0", "1, 2", "nan", "")),
    *(f"200 OK\r\nTransfer-Encoding: chunked\r\nX: {size}" for size in ("a", "b")),
    "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2",
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head[:40])
def test_s80_whatever_sizes_and_wishes_a_head_holds_the_call_ends_with_an_answer_or_our_error(head: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                with contextlib.suppress(OSError):
                    connection, _address = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{{}}".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        made = ApiClient(f"http://127.0.0.1:{listener.getsockname()[1]}", None, lambda: SECRET)
        wish = None
        try:
            assert made.hello({}) == {}
        except Unreachable as error:
            wish = error.retry_after
        made.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert wish is None or 0 <= wish <= 60


@pytest.mark.parametrize("status", [200, 401, 404, 409, 410])
def test_an_answer_not_in_the_form_of_the_api_is_no_verdict(api: Any, client: ApiClient, status: int) -> None:
    """A proxy's 410 must not wipe the agent, its 404 must not cost a report."""
    api.answers["report"] = lambda _call: (status, None)
    with pytest.raises(Unreachable):
        client.report(Attempt(str(uuid.uuid4()), 1, str(uuid.uuid4())), failed("x"), None)


@pytest.mark.parametrize("status", [302, 307])
def test_s48_a_redirect_is_not_followed(api: Any, client: ApiClient, status: int) -> None:
    api.answers["hello"] = lambda _call: (status, None)
    with pytest.raises(Unreachable):
        client.hello({})
    assert api.names() == ["hello"]


def test_no_proxy_from_the_environment_is_used(api: Any, client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert client.hello({})["max_wait"] == 2


def test_a_connection_the_other_side_has_closed_is_made_anew(api: Any, client: ApiClient) -> None:
    cut = iter([True, False])

    def answer(_call: Any) -> tuple[int, dict[str, Any] | None]:
        if next(cut):
            raise ConnectionResetError
        return 200, {"max_wait": 9}

    api.answers["hello"] = answer
    assert client.hello({})["max_wait"] == 9


def test_an_api_that_is_not_there_is_unreachable_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    client = ApiClient(f"http://127.0.0.1:{port}", None, lambda: SECRET)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="Connection refused"):
        client.hello({})
    assert time.monotonic() - started < 2
    client.close()


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[str, str, list[bytes]]]:
    """A TLS server with a certificate of its own making: its URL, its CA, the bytes it got inside TLS."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _address = listener.accept()
            except OSError:
                return
            with plain:
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        said = b""
                        while not said.endswith(b"}") and (more := secure.recv(65536)):  # head and body come apart
                            said += more
                        received.append(said)
                        secure.sendall(
                            b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{"max_wait": 5}'
                        )
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"https://localhost:{listener.getsockname()[1]}", str(tmp_path / "cert.pem"), received
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_s47_tls_with_the_ca_given_works(tls_server: tuple[str, str, list[bytes]]) -> None:
    url, ca_file, received = tls_server
    client = ApiClient(url, ca_file, lambda: SECRET)
    assert client.hello({}) == {"max_wait": 5}
    client.close()
    assert SECRET.encode() in received[0]


def test_s47_no_byte_is_sent_to_a_server_the_ca_does_not_vouch_for(
    tls_server: tuple[str, str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, ca_file, received = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    client = ApiClient(url, None, lambda: SECRET)
    with pytest.raises(Unreachable, match="not signed by the CA"):
        client.hello({})
    client.close()
    wrong_host = ApiClient(url.replace("localhost", "127.0.0.1"), ca_file, lambda: SECRET)
    with pytest.raises(Unreachable, match="another host name"):
        wrong_host.hello({})
    wrong_host.close()
    assert received == []
