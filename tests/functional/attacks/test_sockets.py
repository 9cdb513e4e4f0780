# SPDX-License-Identifier: Apache-2.0
"""Sockets: the API connects to nobody but its database and keystone, whatever it is told (S51)."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.attacks.world import ROUTES, World, bearer, name_of, operator_headers
from tests.harness.callers import DEFINITION, Operator
from tests.harness.servers import ApiProcess

URLS = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:1/",
    "http://[::ffff:127.0.0.1]:1/",
    "https://example.invalid/x",
    "file:///etc/passwd",
    "gopher://127.0.0.1:1/_x",
    "\\\\\\\\127.0.0.1\\\\share",
]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def connects(api: ApiProcess, tmp_path: Path) -> Iterator[Path]:
    """The file into which every call of connect and sendto is written, with its address."""
    seen = tmp_path / "connects"
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(seen), "-p", str(api.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    status = Path(f"/proc/{api.pid}/status")
    deadline = time.monotonic() + 10
    while f"TracerPid:\t{tracer.pid}" not in status.read_text():
        assert tracer.poll() is None, (tracer.stderr.read() if tracer.stderr else b"").decode()
        assert time.monotonic() < deadline, "strace does not get hold of the API"
        time.sleep(0.02)
    yield seen
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    assert tracer.stderr is not None
    tracer.stderr.close()


def test_s51_no_url_in_any_field_makes_the_api_connect(connects: Path, world: World, operator: Operator) -> None:
    workflow_id = operator.workflow(name="w")
    for number, url in enumerate(URLS):
        server = url[:255]
        operator.workflow(name=url, tags=[url])
        fields = {"config": url, "options": {"url": url, "webhook": url}, "outputs": [{"name": "y"}]}
        definition = {**DEFINITION, **fields, "inputs": [{"name": "u", "default": url}]}
        heat = {"stack_id": url[:64], "resource": url}
        values = {"callback": url, "deploy_signal_id": url, "deploy_signal_transport": url}
        operator.task(workflow_id, f"t{number}", definition=definition, input_values=values, server=server, heat=heat)
        agent = operator.agent(name=url, server=server, heat=heat)
        agent.hello(inventory={"url": url})
        agent.report(agent.take(), "failed", reason=url, outputs={"y": url}, deploy_stdout=url)
    for route in ROUTES:
        headers = bearer(world.agent.bearer) if route.path.startswith("/agent") else operator_headers(operator)
        if name_of(route) != "DELETE /v1/workflows/{workflow_id}":
            headers |= {"Host": "169.254.169.254", "X-Forwarded-Host": "169.254.169.254", "Referer": URLS[0]}
            world.ask(route, headers)
    text = connects.read_text()
    assert "sendto" in text or "sendmsg" in text or text == ""
    assert re.findall(r"connect\(.*sa_family=AF_INET6?.*", text) == []
    assert re.findall(r"sendto\([^)]*sa_family=AF_INET.*", text) == [], "no datagrams either, so no names are looked up"


def test_s51_the_trace_would_show_a_connection(tmp_path: Path) -> None:
    """The control: what the test above looks for is what strace writes."""
    script = "import socket,sys; s=socket.socket(); s.connect_ex(('127.0.0.1', 9))"
    seen = tmp_path / "control"
    command = ["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(seen), "python3", "-c", script]
    subprocess.run(command, check=True, timeout=30)
    assert re.findall(r"connect\(.*sa_family=AF_INET.*", seen.read_text())
