# SPDX-License-Identifier: Apache-2.0
"""A server that gives out files as a test wants them: other bytes, half of them, another place, another certificate."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from devcloud.certificates import ensure_certificates
from devcloud.settings import Settings, ensure_settings


@dataclass
class Files:
    """What is served to whom. ``missing`` bytes of the end are never sent; ``redirect`` answers every request so."""

    url: str = ""
    ca_pem: str = ""
    content: bytes = b""
    missing: int = 0
    redirect: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def serving(certificates: Settings | None = None) -> Iterator[Files]:
    """A server of files on loopback, over TLS with these certificates, else in the clear."""
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(302 if files.redirect else 200)
            if files.redirect:
                self.send_header("Location", files.redirect)
            self.send_header("Content-Length", str(len(files.content)))
            self.end_headers()
            self.wfile.write(files.content[: len(files.content) - files.missing])

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # clients that hang up are the point
    scheme = "http"
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.api_certificate, certificates.api_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        files.ca_pem, scheme = certificates.ca_file.read_text(), "https"
    files.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificates(directory: Path) -> Settings:
    """A throwaway authority and a certificate of it for loopback."""
    settings = ensure_settings(directory, None)
    ensure_certificates(settings)
    return settings
