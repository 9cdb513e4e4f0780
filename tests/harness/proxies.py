# SPDX-License-Identifier: Apache-2.0
"""Harness: a real nginx on the configuration that etc/nginx has, in front of an API process."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

from devcloud.certificates import ensure_certificates
from devcloud.settings import Settings
from tests.harness.servers import free_port

ETC = Path(__file__).resolve().parents[2] / "etc" / "nginx"
_AROUND = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/heat-workflow.conf;
}}
"""


class Nginx:
    """Ports and certificates are the test's; everything else stands as it is shipped."""

    def __init__(self, directory: Path, api_port: int, settings: Settings) -> None:
        ensure_certificates(settings)
        self.operator_port, self.guest_port = free_port(), free_port()
        self.trust = ssl.create_default_context(cafile=str(settings.ca_file))
        text = (ETC / "heat-workflow.conf").read_text()
        for shipped, ours in {
            "127.0.0.1:8790": f"127.0.0.1:{api_port}",
            "127.0.0.1:8791": f"127.0.0.1:{api_port}",
            "listen 443 ssl": f"listen 127.0.0.1:{self.operator_port} ssl",
            "listen 8443 ssl": f"listen 127.0.0.1:{self.guest_port} ssl",
            "/etc/heat-workflow/nginx-proxy.conf": str(ETC / "nginx-proxy.conf"),
        }.items():
            assert shipped in text, shipped
            text = text.replace(shipped, ours)
        for half in ("operator", "guest"):
            text = text.replace(f"/etc/heat-workflow/tls/{half}.pem", str(settings.api_certificate))
            text = text.replace(f"/etc/heat-workflow/tls/{half}.key", str(settings.api_key))
        (directory / "heat-workflow.conf").write_text(text)
        self._conf = directory / "nginx.conf"
        self._conf.write_text(_AROUND.format(directory=directory))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [program, "-p", str(self._conf.parent), "-e", "stderr", "-c", str(self._conf)]
        self._process = subprocess.Popen(command)
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.guest_port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("nginx did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def connect(self, port: int, source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """A connection over TLS from that address of this machine."""
        return http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=30, context=self.trust, source_address=(source, 0)
        )
