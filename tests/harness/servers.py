# SPDX-License-Identifier: Apache-2.0
"""Harness: a real heat-workflow-api process on a free loopback port, to be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

from heat_workflow.releases import Releases
from heat_workflow.store.keyring import KeyRing

RELEASED = b"an agent of the release before"  # no agent, but bytes that the API serves


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ApiProcess:
    """One API process on its own configuration file."""

    def __init__(self, directory: Path, connection: str, options: dict[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "api.log"
        self.conf = directory / "heat-workflow.conf"
        self.agents = directory / "agents"
        Releases(self.agents).add(RELEASED)
        settings = {
            "bind_port": str(self.port),
            "auth_strategy": "noauth",
            "agents_dir": str(self.agents),
            **(options or {}),
        }
        lines = ["[api]", *(f"{name} = {value}" for name, value in settings.items())]
        lines += ["[database]", f"connection = {connection}"]
        ring = directory / "keys.json"
        KeyRing().with_new_key().save(str(ring))
        lines += ["[secrets]", f"key_file = {ring}"]
        self.conf.write_text("\n".join([*lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [sys.executable, "-m", "heat_workflow.cmd.api", "--config-file", str(self.conf)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONWARNINGS": "default"}
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if requests.get(f"{self.url}/healthz", timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise AssertionError(f"the API did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is closed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, sig: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sig)
            self._process.wait(30)
        self._process = None
