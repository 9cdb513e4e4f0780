# SPDX-License-Identifier: Apache-2.0
"""Warden and processes: handles work on processes that are not our children, nothing survives the warden."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devcloud.processes import Process, Warden
from devcloud.settings import DevCloudError

ENDLESS = "import time\nprint('up', flush=True)\nwhile True: time.sleep(60)"
DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{ENDLESS}"
# A hook that puts something into the background: in a session of its own, its parent gone.
LEAVES_ORPHAN = """
import os, pathlib, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
"""


@pytest.fixture
def warden(tmp_path: Path) -> Iterator[Warden]:
    warden = Warden(tmp_path)
    warden.open()
    yield warden
    warden.close()


def await_that(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_process(warden: Warden, directory: Path, script: str, *arguments: str) -> Process:
    argv = [sys.executable, "-c", script, *arguments]
    return Process(warden, "sample", argv, directory / "sample.log", {"MARK": "yes"})


def test_a_process_is_stopped_and_started_again(warden: Warden, tmp_path: Path) -> None:
    process = make_process(warden, tmp_path, ENDLESS)
    process.start()
    first = process.pid
    assert process.is_alive
    await_that(lambda: process.log_tail() == "up")
    process.stop()
    assert not process.is_alive
    assert not Path(f"/proc/{first}").exists()
    process.start()
    assert process.is_alive
    assert process.pid != first
    await_that(lambda: process.log_tail() == "up\nup")
    assert b"MARK=yes" in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_a_process_that_ignores_sigterm_is_killed(
    warden: Warden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devcloud.processes.STOP_GRACE_S", 0.2)
    process = make_process(warden, tmp_path, DEAF)
    process.start()
    await_that(lambda: "up" in process.log_tail())
    process.stop()
    assert not process.is_alive


def test_a_stopped_clock_is_not_an_end(warden: Warden, tmp_path: Path) -> None:
    process = make_process(warden, tmp_path, ENDLESS)
    process.start()
    process.send_signal(signal.SIGSTOP)
    assert process.is_alive
    process.kill()
    assert not process.is_alive


def test_closing_the_warden_ends_orphans_too(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    warden.open()
    endless = make_process(warden, tmp_path, ENDLESS)
    endless.start()
    parent = make_process(warden, tmp_path, LEAVES_ORPHAN, str(tmp_path / "pid"))
    parent.start()
    await_that(lambda: not parent.is_alive and (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    orphan = (tmp_path / "pid").read_text()
    assert Path(f"/proc/{orphan}").exists()
    warden.close()
    assert not Path(f"/proc/{orphan}").exists()
    assert not Path(f"/proc/{endless.pid}").exists()
    with pytest.raises(DevCloudError, match="not up"):
        endless.start()
