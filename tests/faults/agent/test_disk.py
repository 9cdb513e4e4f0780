# SPDX-License-Identifier: Apache-2.0
"""F17, F18, F19: the guest's disk is full, fails, is read-only, belongs to somebody else, or lies (G12)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import counts
from tests.faults.agent.sabotage import FAULT
from tests.harness.guests import CounterFile, Guest
from tests.harness.machine import wait_for
from tests.harness.small_api import wire_task

Task = dict[str, Any]
Add = Callable[..., Task]
Finished = Callable[[Task], Task]
MakeGuest = Callable[..., Guest]

CALLS = ["fsync", "write", "rename", "open"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 70 MiB: just enough for an agent to claim."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m,mode=755", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", CALLS)
def test_f18_each_write_and_fsync_may_fail_once_and_the_task_ends_once(
    call: str, error: str, make_guest: MakeGuest, counter: CounterFile, add: Add, finished: Finished, tmp_path: Path
) -> None:
    ends = []
    for number in range(counts.F18_FIRST, 100, counts.F18_EVERY):
        witness = tmp_path / f"failed-{number}"
        guest = make_guest(f"s{number}")
        with guest.kept_alive(**{FAULT: f"{call}:{error}:{number}:{witness}"}):
            task = finished(add(counter.script(), server=f"s{number}"))
            guest.settle()
        guest.end()
        ends.append(task)
        if not witness.exists():
            break
    assert len(ends) > 1
    executed = counter.read()
    assert executed.doubled == []
    for task in ends:
        started = executed.starts[task["id"], task["attempt"]]
        told = "not started" in task["status_reason"] or "hook lost" in task["status_reason"]
        assert (task["state"], started) == ("succeeded", 1) or (started == 0 and told)


def test_f18_a_hook_that_fills_the_disk_is_reported_and_cancelled_though_it_is_full(
    make_guest: MakeGuest, add: Add, finished: Finished, disk: Path, cancel: Callable[[Task], None]
) -> None:
    guest = make_guest(state_dir=str(disk / "state"))
    fill = f"cat /dev/zero > {disk}/full 2>/dev/null"
    with guest.kept_alive():
        report = finished(add(f"{fill}; cat /dev/zero > {disk}/fuller; echo said\n"))
        assert (report["state"], report["deploy_stdout"]) == ("succeeded", "said\n")
        assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < 2_000_000
        (disk / "full").unlink()
        task = add(f"{fill}; cat /dev/zero > {disk}/fuller; touch {guest.directory}/up; sleep 30\n")
        wait_for((guest.directory / "up").exists)
        cancel(task)
        assert finished(task)["state"] == "cancelled"
        waiting = add("true\n")
        wait_for(lambda: "nothing is claimed until there is room" in guest.log.read_text())
        (disk / "full").unlink()
        assert finished(waiting)["state"] == "succeeded"


def test_f17_on_a_read_only_disk_nothing_is_claimed_until_it_can_be_written_again(
    guest: Guest, add: Add, finished: Finished
) -> None:
    spool = guest.state / "spool"
    with guest.kept_alive():
        finished(add("true\n"))
        subprocess.run(["mount", "--bind", spool, spool], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", spool], check=True)
            task = add("true\n")  # may still be claimed by the poll that is waiting
            wait_for(lambda: f"spool {spool} is gone or cannot be written" in guest.log.read_text())
            task = add("true\n")
        finally:
            subprocess.run(["umount", "-l", spool], check=True)
        assert finished(task)["state"] == "succeeded"


@pytest.mark.parametrize("folder", ["", "spool", "run"])
@pytest.mark.parametrize("wrong", ["owner", "writable"])
def test_f17_a_state_directory_of_somebody_else_is_refused_with_its_name(
    folder: str, wrong: str, guest: Guest, add: Add, finished: Finished
) -> None:
    guest.start()
    finished(add("true\n"))
    guest.kill()
    path = guest.state / folder
    if wrong == "owner":
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o777)
    guest.start()
    assert guest.ended(30)
    said = guest.log.read_text().splitlines()[-1]
    assert str(path) in said
    assert ("belongs to uid 65534" if wrong == "owner" else "can be written by others") in said
    os.chown(path, 0, 0)


def test_f17_a_spool_that_is_lost_costs_the_outcome_alone(
    guest: Guest, add: Add, finished: Finished, counter: CounterFile
) -> None:
    """The API hears at hello that the agent knows nothing of the attempt it had started."""
    with guest.kept_alive():
        task = add(counter.script("sleep 0.3"))
        wait_for(lambda: counter.read().starts)
        shutil.rmtree(guest.state / "spool")
        guest.kill()
        assert finished(add("echo on\n"))["deploy_stdout"] == "on\n"
    assert counter.read().doubled == []
    assert counter.read().starts[task["id"], 1] == 1


def test_f19_g4_what_says_started_is_on_the_disk_before_the_hook_is_executed(
    tmp_path: Path, counter: CounterFile
) -> None:
    """A disk that keeps what it was told to sync keeps G4; one that lies may forget the last step (see the docs)."""
    trace = tmp_path / "trace"
    code = (
        "import json, sys\n"
        "from guest_agent.hooks import BUILT_IN\n"
        "from guest_agent.runner import Runner\n"
        "from guest_agent.state_dir import StateDir\n"
        "from guest_agent.task import read_task\n"
        "task = read_task(json.loads(sys.argv[2]))\n"
        "runner = Runner(StateDir(sys.argv[1]))\n"
        "runner.lay_out(task, BUILT_IN['script'].prepare(task, runner.place(task.attempt)), {})\n"
        "runner.start(task.attempt).wait()\n"
    )
    calls = "trace=openat,fsync,fdatasync,rename,renameat,renameat2,execve"
    command: list[str] = ["strace", "-f", "-y", "-s", "400", "-e", calls, "-o", str(trace), sys.executable, "-c", code]
    wire = wire_task(counter.script())
    subprocess.run([*command, str(tmp_path / "state"), json.dumps(wire)], check=True)
    steps = _steps(trace.read_text())
    assert steps == [
        "sync started",
        "name started",
        "sync spool",
        "execute",
        "sync finished",
        "name finished",
        "sync spool",
    ]


def _steps(trace: str) -> list[str]:
    """What happened to the journal, in its order."""
    patterns = [
        (r"fsync\(\d+<[^>]*/\.tmp\.[^>]*\.(started|finished)>", "sync {}"),
        (r"rename\w*\(.*\.(started|finished)\"", "name {}"),
        (r"fsync\(\d+<[^>]*/(spool)>", "sync {}"),
        (r"execve\(\"[^\"]*/run/[0-9a-f]+/(config)\"", "execute"),
    ]
    found = []
    for line in trace.splitlines():
        for pattern, word in patterns:
            match = re.search(pattern, line)
            if match:
                found.append(word.format(match[1]))
    return found
