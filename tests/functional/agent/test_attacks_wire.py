# SPDX-License-Identifier: Apache-2.0
"""Attacks on the agent by way of the network: S47, S48. A fake server writes down every byte it is told in TLS."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import os
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.harness.machine import Machine, wait_for
from tests.harness.small_api import Api

AGENT = str(uuid.uuid4())
JOIN = f"hwj1.{AGENT.replace('-', '')}.{'j' * 43}"
DAY = datetime.timedelta(days=1)
MEMBERS = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
Key = ec.EllipticCurvePrivateKey


class Authority:
    """A certificate authority on disk."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = directory / f"{name}.pem"
        ca = self._builder(self._name, self._key, -DAY, DAY, self._name)
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file.write_bytes(_pem(ca.sign(self._key, hashes.SHA256())))

    def issue(
        self,
        names: list[x509.GeneralName],
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        self_signed: bool = False,
    ) -> Path:
        """A certificate with its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
        builder = self._builder(subject, key, begins, ends, subject if self_signed else self._name)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        path = self._directory / f"{uuid.uuid4()}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(_pem(certificate) + private)
        return path

    def _builder(
        self, subject: x509.Name, key: Key, begins: datetime.timedelta, ends: datetime.timedelta, issuer: x509.Name
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(now + begins).not_valid_after(now + ends)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


class Recorder:
    """A server that says nothing and writes down what it hears inside TLS; ``hello`` is what came before that."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self.heard: list[bytes] = []
        self.met = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                plain, _address = self._listener.accept()
            except OSError:
                return
            with plain:
                self.met += 1
                try:
                    stream = self._context.wrap_socket(plain, server_side=True) if self._context else plain
                    stream.settimeout(5)
                    self.heard.append(stream.recv(65536))
                    stream.close()
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def _recording(certificate: Path | None, newest: ssl.TLSVersion | None = None) -> Iterator[Recorder]:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if newest is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            _allow_old(context, newest)
    recorder = Recorder(context)
    thread = threading.Thread(target=recorder.serve)
    thread.start()
    try:
        yield recorder
    finally:
        recorder.close()
        thread.join()


def _allow_old(context: ssl.SSLContext, newest: ssl.TLSVersion) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest


SERVERS: dict[str, tuple[Callable[[Authority], Path], str]] = {
    "self-signed": (lambda ca: ca.issue(MEMBERS, self_signed=True), "not signed by the CA"),
    "another name": (lambda ca: ca.issue([x509.DNSName("elsewhere")]), "another host name"),
    "expired": (lambda ca: ca.issue(MEMBERS, -2 * DAY, -DAY), "has expired"),
    "not yet valid": (lambda ca: ca.issue(MEMBERS, DAY, 2 * DAY), "not yet valid; is this machine's clock right"),
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Starts an agent for a URL with a CA and an environment."""
    made: list[Machine] = []

    def begin(url: str, ca: Path | None = None, **environment: str) -> Machine:
        options = {"ca_file": str(ca)} if ca else {}
        machine = Machine(tmp_path / f"guest-{len(made)}", url, AGENT, JOIN, **options)
        made.append(machine)
        machine.start(**environment)
        return machine

    yield begin
    for machine in made:
        machine.end()


@pytest.mark.parametrize("server", SERVERS)
def test_s47_f24_a_certificate_that_is_not_right_gets_no_byte_and_a_reason(
    server: str, authority: Authority, start: Callable[..., Machine]
) -> None:
    make, words = SERVERS[server]
    with _recording(make(authority)) as recorder:
        machine = start(f"https://127.0.0.1:{recorder.port}", authority.file)
        wait_for(lambda: words in machine.log.read_text())
        assert recorder.met
        assert recorder.heard == []


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_s47_tls_before_1_2_is_not_spoken(
    newest: ssl.TLSVersion, authority: Authority, start: Callable[..., Machine]
) -> None:
    with _recording(authority.issue(MEMBERS), newest) as recorder:
        machine = start(f"https://127.0.0.1:{recorder.port}", authority.file)
        wait_for(lambda: "TLS: " in machine.log.read_text())
        assert recorder.met
        assert recorder.heard == []


def test_s47_nothing_in_the_environment_makes_the_agent_trust_another(
    authority: Authority, start: Callable[..., Machine], tmp_path: Path
) -> None:
    """A CA of the system's store or of a variable is not asked where the settings name one."""
    other = Authority(tmp_path, "theirs")
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    trusting = {**dict.fromkeys(names, str(other.file)), "PYTHONHTTPSVERIFY": "0", "SSL_CERT_DIR": str(tmp_path)}
    with _recording(other.issue(MEMBERS)) as recorder:
        machine = start(f"https://127.0.0.1:{recorder.port}", authority.file, **trusting)
        wait_for(lambda: "not signed by the CA" in machine.log.read_text())
        machine = start(f"https://127.0.0.1:{recorder.port}", **trusting)
        wait_for(lambda: "not signed by the CA" in machine.log.read_text())
        assert recorder.heard == []


def test_s47_the_right_certificate_is_told_the_join_token(authority: Authority, start: Callable[..., Machine]) -> None:
    """So the recorder would have seen a token in the tests above."""
    with _recording(authority.issue(MEMBERS)) as recorder:
        start(f"https://127.0.0.1:{recorder.port}", authority.file)
        wait_for(lambda: recorder.heard)
        assert JOIN.encode() in recorder.heard[0]


@pytest.mark.parametrize("url", ["http://api.example.org:8790", "http://192.0.2.1", "ftp://127.0.0.1", "//127.0.0.1"])
def test_s47_a_url_without_tls_is_refused_before_anything_is_sent(url: str, start: Callable[..., Machine]) -> None:
    machine = start(url)
    assert machine.process is not None
    assert machine.process.wait(30) == 2
    assert "api_url" in machine.log.read_text()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["another origin", "http in place of https"])
def test_s48_s47_a_redirect_is_not_followed_and_no_token_leaves(
    status: int, to: str, authority: Authority, start: Callable[..., Machine]
) -> None:
    with _recording(None) as elsewhere, _redirecting(authority, status, elsewhere.port, to) as (port, asked):
        machine = start(f"https://localhost:{port}", authority.file)
        wait_for(lambda: len(asked) > 1)
        assert f"{status} from something that is not the API" in machine.log.read_text()
        assert (elsewhere.met, elsewhere.heard) == (0, [])


@contextmanager
def _redirecting(authority: Authority, status: int, port: int, to: str) -> Iterator[tuple[int, list[str]]]:
    """An API that sends every caller elsewhere."""
    asked: list[str] = []
    origin = f"http://localhost:{port}" if to.startswith("http") else f"https://127.0.0.1:{port}"

    class Handler(http.server.BaseHTTPRequestHandler):
        def _serve(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Location", origin + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_GET = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue(MEMBERS))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_s48_proxies_and_netrc_of_the_environment_are_not_used(
    fake: Api, start: Callable[..., Machine], tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login thief password canary\n")
    with _recording(None) as thief:
        proxy = f"http://127.0.0.1:{thief.port}"
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), proxy)
        start(fake.url, HOME=str(tmp_path), NETRC=str(tmp_path / ".netrc"), **proxies)
        wait_for(lambda: "claim" in fake.names())
        assert thief.met == 0
    assert {call.token[:5] for call in fake.calls} == {"hwj1.", "hwa1."}
    assert os.environ.get("NETRC") is None
