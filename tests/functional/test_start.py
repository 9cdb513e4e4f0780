# SPDX-License-Identifier: Apache-2.0
"""What the API says of its own configuration when it starts (F53)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from heat_workflow.store import schema
from tests.harness.machine import wait_for
from tests.harness.servers import ApiProcess


def test_f53_a_certificate_that_guests_refuse_is_said_at_the_start(tmp_path: Path) -> None:
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=api",
        shell=True,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    store = f"sqlite:///{tmp_path}/store.sqlite"
    schema.sync(store)
    files = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    api = ApiProcess(tmp_path / "api", store, files)
    with api.log.open("ab") as log:
        command = [sys.executable, "-m", "heat_workflow.cmd.api", "--config-file", str(api.conf)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: "guests may refuse this API" in api.log.read_text())
        assert "cert.pem: CN=api: it has no subjectAltName" in api.log.read_text()
        assert process.poll() is None, "it serves all the same"
    finally:
        process.kill()
        process.wait()
