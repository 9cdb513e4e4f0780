# SPDX-License-Identifier: Apache-2.0
"""`python -m devcloud up`: what it prints, what it leaves behind on disk, that no process is left."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from devcloud.people import log_in
from devcloud.settings import HOST, load_settings
from devcloud.stacks import Stacks
from tests.harness.waiters import is_readable

READY_KEYS = {"auth_url", "heat_url", "api_url", "api_ca_file", "username", "password", "project_name"}
STACK = {
    "heat_template_version": "wallaby",
    "resources": {"a": {"type": "OS::Heat::Value", "properties": {"value": 1}}},
}


@contextlib.contextmanager
def up(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "devcloud", "up", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, read_ready(process)
        finally:
            process.kill()


def read_ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    assert is_readable(process.stdout.fileno(), 60), "nothing was printed in 60 s"
    word, _, rest = process.stdout.readline().partition(" ")
    assert word == "ready"
    ready: dict[str, str] = json.loads(rest)
    return ready


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    assert process.stdout is not None
    process.send_signal(number)
    return process.wait(20), process.stdout.read()


def processes_of(directory: Path) -> list[str]:
    """The command lines of the processes that were started with a path in the directory."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
            if str(directory) in command and "devcloud\0up" not in command:
                found.append(command)
    return found


def openstack(directory: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "openstack"), "--os-cloud", "devcloud", *arguments]
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(directory / "clouds.yaml")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_an_explicit_directory_is_kept_and_can_be_used_again(tmp_path: Path) -> None:
    directory = tmp_path / "cloud"
    with up("--dir", str(directory), "--no-agents") as (process, first):
        assert first.keys() == READY_KEYS
        name = Stacks(log_in(load_settings(directory), "demo", first["password"], "demo")).create("kept", STACK).name
        assert len(processes_of(directory)) == 4  # Keystone, Nova's stand-in, Heat, the API
        assert end(process, signal.SIGTERM) == (0, "")
        assert processes_of(directory) == []
    with up("--dir", str(directory)) as (process, second):
        assert second == first
        assert name in openstack(directory, "stack", "list")
        assert end(process, signal.SIGINT) == (0, "")
    logs = sorted(path.name for path in (directory / "logs").iterdir())
    assert logs == ["api.log", "heat.log", "keystone.log", "nova.log"]


def test_openrc_logs_the_demo_user_in(tmp_path: Path) -> None:
    with up("--dir", str(tmp_path), "--no-agents") as (process, ready):
        shell = f". {tmp_path}/openrc && {Path(sys.executable).parent}/openstack token issue -f value -c project_id"
        done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
        assert ready["heat_url"].endswith(done.stdout.strip())
        end(process, signal.SIGTERM)


def test_the_default_directory_is_removed_at_the_end() -> None:
    with up() as (process, ready):
        directory = Path(ready["api_ca_file"]).parent
        assert directory.is_dir()
        assert end(process, signal.SIGTERM) == (0, "")
        assert not directory.exists()


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    with up("--dir", str(tmp_path)) as (process, _):
        assert processes_of(tmp_path)
        end(process, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while processes_of(tmp_path):
            assert time.monotonic() < deadline, processes_of(tmp_path)
            time.sleep(0.05)


def test_a_failure_shows_the_end_of_the_log_of_what_failed(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "devcloud", "up", "--dir", str(tmp_path), "--port-base", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "keystone ended" in done.stderr
    assert "Address already in use" in done.stderr
    assert processes_of(tmp_path) == []
