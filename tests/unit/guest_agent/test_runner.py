# SPDX-License-Identifier: Apache-2.0
"""The runner with real processes: what ends, what stays, what is found again (G4, G8, G10, F11, F21)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guest_agent.hooks import BUILT_IN
from guest_agent.processes import having_in_environment
from guest_agent.records import read_record
from guest_agent.runner import Runner
from guest_agent.running import Running
from guest_agent.spool import FINISHED, STARTED
from guest_agent.state_dir import StateDir
from guest_agent.task import Attempt, read_task

Wire = dict[str, Any]
Make = Callable[..., Wire]
Start = Callable[[Wire], Running]
Finish = Callable[[Wire], Wire]
Wait = Callable[..., None]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    return StateDir(str(tmp_path_factory.mktemp("guest") / "state"))


@pytest.fixture(scope="module")
def runner(state: StateDir) -> Iterator[Runner]:
    made = Runner(state)
    yield made
    made.close()


@pytest.fixture
def start(runner: Runner) -> Iterator[Start]:
    """Starts the hook of a task; what it may have left is killed in the end."""
    attempts: list[Attempt] = []

    def begin(wire: Wire) -> Running:
        task = read_task(wire)
        attempts.append(task.attempt)
        command = BUILT_IN[task.group].prepare(task, runner.place(task.attempt))
        runner.lay_out(task, command, {"boot_id": "b"})
        return runner.start(task.attempt)

    yield begin
    for attempt in attempts:
        runner.end_orphans(attempt)


@pytest.fixture
def finish(start: Start, state: StateDir) -> Finish:
    """Starts the hook of a task and waits for its report."""

    def end(wire: Wire) -> Wire:
        running = start(wire)
        running.wait()
        running.close()
        return dict(read_record(state.spool, f"{running.attempt.name}.{FINISHED}")["report"])

    return end


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_script_gets_its_inputs_and_leaves_its_outputs(finish: Finish, make_wire_task: Make) -> None:
    script = (
        '#!/bin/sh\necho "out $who"; echo err >&2; printf "%s" "$HW_INPUT_who" > ${heat_outputs_path}.greeting\n'
        "umask; pwd; cat\n"
    )
    report = finish(make_wire_task(script, input_values={"who": "you"}, outputs=[{"name": "greeting"}]))
    assert report["status"] == "succeeded"
    assert report["deploy_status_code"] == 0
    assert report["deploy_stdout"] == 'out you\n0022\n/\n{"who": "you"}'
    assert report["deploy_stderr"] == "err\n"
    assert report["outputs"] == {"greeting": "you"}
    assert report["reason"] is None


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        ("exit 3\n", 3, "exit code 3, and nothing was written"),
        ("kill -9 $$\n", 137, "killed by SIGKILL"),
        ("echo 'ERROR: database is locked'\nexit 1\n", 1, "exit code 1: ERROR: database is locked"),
        ("echo out; echo err >&2; exit 1\n", 1, "exit code 1: err"),
        ("nosuchtool\n", 127, "exit code 127 (a command was not found): "),
        ("set -x\necho 'no space'\nexit 1\n", 1, "exit code 1: no space"),
        ("nosuchtool\r\n", 127, "carriage return"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}#!/bin/sh\nexit 4\n", 4, "byte order mark"),
    ],
)
def test_a_failure_says_why(finish: Finish, make_wire_task: Make, config: str, code: int, words: str) -> None:
    report = finish(make_wire_task(config))
    assert (report["status"], report["deploy_status_code"]) == ("failed", code)
    assert words in report["reason"]


def test_an_error_output_is_a_failure_with_its_value(finish: Finish, make_wire_task: Make) -> None:
    outputs = [{"name": "why", "error_output": True}]
    report = finish(make_wire_task("printf disk > ${heat_outputs_path}.why\n", outputs=outputs))
    assert (report["status"], report["reason"]) == ("failed", "why : disk")


def test_f21_a_timeout_ends_what_called_setsid_and_lost_its_parent(
    finish: Finish, make_wire_task: Make, tmp_path: Path
) -> None:
    script = f"(setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 100' >/dev/null 2>&1 &)\nsleep 100\n"
    started = time.monotonic()
    report = finish(make_wire_task(script, timeout=0.8))
    assert report["status"] == "timed_out"
    assert report["reason"] == "it ran longer than its timeout of 0.8 s"
    assert 0.8 <= time.monotonic() - started < 8
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_f21_after_the_grace_what_ignores_sigterm_is_killed_too(
    start: Start, state: StateDir, make_wire_task: Make, tmp_path: Path, wait_until: Wait
) -> None:
    child = f'trap "" TERM; echo $$ > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; while :; do sleep 100; done'
    running = start(make_wire_task(f"trap '' TERM\nsetsid sh -c '{child}' &\nwhile :; do sleep 100; done\n"))
    wait_until((tmp_path / "pid").exists)
    running.cancel("cancelled", 0.2)
    running.wait()
    running.close()
    report = read_record(state.spool, f"{running.attempt.name}.{FINISHED}")["report"]
    assert (report["status"], report["deploy_status_code"]) == ("cancelled", 137)
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_the_deadline_of_the_task_ends_it_too(finish: Finish, make_wire_task: Make) -> None:
    report = finish(make_wire_task("echo begun\nsleep 100\n", deadline_in=0.2, timeout=50))
    assert (report["status"], report["deploy_stdout"]) == ("timed_out", "begun\n")
    assert report["reason"] == "the deadline of the task has passed; it last said: begun"


def test_cancel_gives_the_hook_its_grace(
    start: Start, state: StateDir, make_wire_task: Make, wait_until: Wait, tmp_path: Path
) -> None:
    script = f"trap 'echo cleaned; exit 0' TERM\ntouch {tmp_path}/up\nwhile :; do sleep 0.02; done\n"
    running = start(make_wire_task(script))
    wait_until((tmp_path / "up").exists)
    running.cancel("cancelled", 10.0)
    running.cancel("cancelled", 10.0)
    running.wait()
    running.close()
    report = read_record(state.spool, f"{running.attempt.name}.{FINISHED}")["report"]
    assert (report["status"], report["deploy_stdout"]) == ("cancelled", "cleaned\n")


def test_a_cancel_before_the_hook_is_up_is_not_lost(start: Start, state: StateDir, make_wire_task: Make) -> None:
    running = start(make_wire_task("sleep 100\n"))
    running.cancel("cancelled", 0.0)
    running.wait()
    running.close()
    assert read_record(state.spool, f"{running.attempt.name}.{FINISHED}")["report"]["status"] == "cancelled"


def test_what_a_finished_hook_left_running_stays_and_does_not_hold_the_report(
    finish: Finish, make_wire_task: Make, tmp_path: Path, wait_until: Wait
) -> None:
    script = f"#!/bin/sh\n(sleep 0.6; echo late; touch {tmp_path}/late; exec sleep 100) &\necho $! > {tmp_path}/pid\n"
    started = time.monotonic()
    report = finish(make_wire_task(script))
    assert report["status"] == "succeeded"
    assert time.monotonic() - started < 5
    wait_until((tmp_path / "late").exists)
    assert _alive(int((tmp_path / "pid").read_text()))


def test_large_output_is_cut_and_measured(finish: Finish, make_wire_task: Make) -> None:
    report = finish(make_wire_task("head -c 3000000 /dev/zero | tr '\\0' x; printf end\n"))
    assert report["status"] == "succeeded"
    assert report["stdout_info"]["total_bytes"] == 3000003
    assert report["stdout_info"]["truncated"] is True
    assert report["deploy_stdout"].endswith("end")
    assert len(report["deploy_stdout"]) < 66000


def test_f11_a_killed_shim_leaves_no_report_and_its_hook_can_be_ended(
    start: Start, runner: Runner, state: StateDir, make_wire_task: Make, tmp_path: Path, wait_until: Wait
) -> None:
    wire = make_wire_task(f"echo $PPID > {tmp_path}/shim.part; mv {tmp_path}/shim.part {tmp_path}/shim; sleep 100\n")
    running = start(wire)
    wait_until((tmp_path / "shim").exists)
    os.kill(int((tmp_path / "shim").read_text()), signal.SIGKILL)
    running.wait()
    running.close()
    assert state.spool.has(f"{running.attempt.name}.{STARTED}")
    assert not state.spool.has(f"{running.attempt.name}.{FINISHED}")
    assert runner.find_running(running.attempt) is None
    runner.end_orphans(running.attempt)
    assert having_in_environment(b"HW_RUN=" + running.attempt.run_name.encode()) == []


def test_a_hook_is_not_executed_when_its_start_cannot_be_journaled(
    start: Start, state: StateDir, make_wire_task: Make, tmp_path: Path
) -> None:
    wire = make_wire_task(f"touch {tmp_path}/ran\n")
    Path(state.spool.path, f"{read_task(wire).attempt.name}.{STARTED}").mkdir()
    running = start(wire)
    running.wait()
    running.close()
    assert not (tmp_path / "ran").exists()


def test_a_zygote_that_was_killed_is_replaced(
    finish: Finish, make_wire_task: Make, runner: Runner, wait_until: Wait
) -> None:
    assert finish(make_wire_task("exit 0\n"))["status"] == "succeeded"
    first = runner.zygote_pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not _alive(first))
    assert finish(make_wire_task("exit 0\n"))["status"] == "succeeded"
    assert runner.zygote_pid != first


def test_g10_a_hook_survives_the_kill_of_the_agent_and_is_found_again(
    runner: Runner, state: StateDir, make_wire_task: Make, tmp_path: Path, wait_until: Wait
) -> None:
    """The process killed is a real one that forks its zygote and starts a hook as the agent does."""
    wire = make_wire_task(
        f"echo x >> {tmp_path}/starts; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done\n"
    )
    code = (
        "import json, sys, time\n"
        "from guest_agent.zygote import fork_zygote\n"
        "zygote = fork_zygote()\n"
        "from guest_agent.hooks import BUILT_IN\n"
        "from guest_agent.runner import Runner\n"
        "from guest_agent.state_dir import StateDir\n"
        "from guest_agent.task import read_task\n"
        "task = read_task(json.loads(sys.argv[2]))\n"
        "runner = Runner(StateDir(sys.argv[1]), zygote)\n"
        "runner.lay_out(task, BUILT_IN['script'].prepare(task, runner.place(task.attempt)), {})\n"
        "runner.start(task.attempt).wait()\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", code, state.path, json.dumps(wire)])
    wait_until((tmp_path / "starts").exists)
    agent.kill()
    agent.wait()
    running = runner.find_running(read_task(wire).attempt)
    assert running is not None
    (tmp_path / "go").touch()
    running.wait()
    running.close()
    report = read_record(state.spool, f"{running.attempt.name}.{FINISHED}")["report"]
    assert (report["status"], report["deploy_stdout"]) == ("succeeded", "done\n")
    assert (tmp_path / "starts").read_text() == "x\n"


def test_run_directories_nobody_knows_are_removed(runner: Runner, state: StateDir, finish: Finish) -> None:
    Path(state.run.path, "stale").mkdir()
    Path(state.run.path, "stale", "secret").write_text("x")
    runner.discard_others([])
    assert state.run.names() == []
