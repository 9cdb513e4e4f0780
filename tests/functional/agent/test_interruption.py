# SPDX-License-Identifier: Apache-2.0
"""Reboots and crashes in mid-hook with the real agent and API (G4, G11, G15, G19, F13, F14, F40)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guest_agent.records import decode, encode
from tests.functional.agent.conftest import Add
from tests.harness.machine import Machine, wait_for

Task = dict[str, Any]
Finished = Callable[..., Task]


def _cut_power(machine: Machine, shim: Path) -> None:
    """What a reboot leaves behind: every process is gone, the journal is of another boot."""
    machine.kill()
    os.kill(int(shim.read_text()), signal.SIGKILL)
    (started,) = (machine.state / "spool").glob("*.started")
    started.write_bytes(encode({**decode(started.read_bytes(), "started"), "boot_id": "another"}))


def _wait_for_session(machine: Machine, number: int) -> None:
    wait_for(lambda: machine.log.read_text().count("session begun") == number)


@pytest.mark.parametrize(
    ("on_interrupt", "state", "starts"),
    [("fail", "failed", "0/\n"), ("rerun", "succeeded", "0/\n1/\n"), ("resume", "succeeded", "0/\n1/1\n")],
)
def test_g11_f14_after_a_reboot_the_author_decides(
    machine: Machine, add: Add, finished: Finished, tmp_path: Path, on_interrupt: str, state: str, starts: str
) -> None:
    script = (
        f"echo $HW_BOOT/$HW_RESUME >> {tmp_path}/starts\n"
        "[ -e ${heat_outputs_path}.kept ] && [ -z $HW_RESUME ] && exit 9\n"
        "[ $HW_BOOT = 1 ] && exit 0\n"
        f"touch ${{heat_outputs_path}}.kept; echo $PPID > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/shim\n"
        "sleep 100\n"
    )
    task = add(script, on_interrupt=on_interrupt)
    wait_for((tmp_path / "shim").exists)
    _cut_power(machine, tmp_path / "shim")
    machine.start()
    after = finished(task)
    assert after["state"] == state
    assert (tmp_path / "starts").read_text() == starts
    assert after["attempt"] == 1
    if state == "failed":
        assert "interrupted by reboot" in after["status_reason"]


def test_f13_exit_status_194_runs_the_hook_again_and_gives_one_outcome(
    machine: Machine, add: Add, finished: Finished, tmp_path: Path
) -> None:
    script = f"echo $HW_BOOT >> {tmp_path}/starts; [ $HW_BOOT = 3 ] || exit 194\n"
    after = finished(add(script))
    assert (after["state"], after["attempt"]) == ("succeeded", 1)
    assert (tmp_path / "starts").read_text() == "0\n1\n2\n3\n"


def test_f13_a_hook_that_never_stops_asking_for_reboots_fails(
    machine: Machine, add: Add, finished: Finished, tmp_path: Path
) -> None:
    after = finished(add(f"echo x >> {tmp_path}/starts; exit 194\n"))
    assert (after["state"], after["deploy_status_code"]) == ("failed", 194)
    assert (tmp_path / "starts").read_text() == "x\n" * 11


def test_a_reboot_is_asked_of_the_machine_where_there_is_a_command(
    boot: Callable[..., Machine], add: Add, finished: Finished, tmp_path: Path
) -> None:
    command = tmp_path / "reboot"
    command.write_text(f"#!/bin/sh\ntouch {tmp_path}/rebooting\n")
    command.chmod(0o755)
    machine = boot(reboot_command=str(command))
    task = add("[ $HW_BOOT = 1 ] || exit 194\n")
    wait_for((tmp_path / "rebooting").exists)
    machine.kill()
    (started,) = (machine.state / "spool").glob("*.started")
    started.write_bytes(encode({**decode(started.read_bytes(), "started"), "boot_id": "another"}))
    machine.start()
    assert finished(task)["state"] == "succeeded"


def test_g19_f40_a_hook_that_brings_the_agent_down_three_times_is_poison(
    machine: Machine, add: Add, finished: Finished, tmp_path: Path
) -> None:
    task = add(f"echo x >> {tmp_path}/starts; while :; do sleep 0.02; done\n")
    wait_for((tmp_path / "starts").exists)
    for number in (2, 3, 4):
        machine.kill()
        machine.start()
        if number < 4:
            _wait_for_session(machine, number)
    after = finished(task)
    assert after["state"] == "failed"
    assert "poison" in after["status_reason"]
    assert (tmp_path / "starts").read_text() == "x\n"
    assert finished(add("echo on\n"))["deploy_stdout"] == "on\n"


def test_an_agent_that_is_stopped_on_purpose_is_not_brought_down(
    machine: Machine, add: Add, finished: Finished, tmp_path: Path
) -> None:
    task = add(f"touch {tmp_path}/up; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done\n")
    wait_for((tmp_path / "up").exists)
    for number in (2, 3, 4, 5):
        assert machine.kill(signal.SIGTERM) == 0
        machine.start()
        _wait_for_session(machine, number)
    (tmp_path / "go").touch()
    assert finished(task)["state"] == "succeeded"


def test_s46_a_hook_that_runs_as_somebody_has_nothing_left_of_the_agent(
    open_machine: Machine, add: Add, finished: Finished
) -> None:
    script = (
        "#!/bin/sh\nid -u; id -G; grep -E '^(Uid|Gid|NoNewPrivs)' /proc/$$/status | tr '\\t' ' '\n"
        "ls -l /proc/$$/fd | grep -cE 'spool|socket|order|alive|control|credential'\n"
        "ulimit -c; echo $USER; cat $HW_INPUTS_FILE; echo\n"
        "printf ok > ${heat_outputs_path}.o; here=$(dirname $HW_INPUTS_FILE)\n"
        "cat $here/order.json; ls $here/..; rm -f $HW_INPUTS_FILE; true\n"
    )
    task = finished(add(script, run_as="nobody", input_values={"i": "v"}, outputs=[{"name": "o"}]))
    assert task["state"] == "succeeded", task["status_reason"]
    me = "65534"
    assert task["deploy_stdout"].splitlines() == [
        *(me, me, f"Uid: {me} {me} {me} {me}", f"Gid: {me} {me} {me} {me}", "NoNewPrivs: 1"),
        *("0", "0", "nobody", '{"i": "v"}'),
    ]
    assert task["deploy_stderr"].count("ermission denied") == 3
    assert task["outputs"] == {"o": "ok"}


def test_s44_what_is_on_the_disk_is_closed_to_others_while_a_hook_runs_as_somebody(
    open_machine: Machine, add: Add, finished: Finished
) -> None:
    task = add("while [ ! -e ${heat_outputs_path}.go ]; do sleep 0.05; done\n", run_as="nobody")
    state = open_machine.state
    wait_for(lambda: list(state.glob("run/*/log")))
    (run,) = (state / "run").iterdir()
    modes = {path: path.stat().st_mode & 0o777 for path in [state, *state.rglob("*")]}
    assert {path for path, mode in modes.items() if mode & 0o077} == {state, state / "run", run}
    assert {modes[path] for path in (state, state / "run", run)} == {0o711}
    owners = {path.name: path.stat().st_uid for path in run.iterdir()}
    assert {name for name, uid in owners.items() if uid == 65534} == {"config", "inputs.json", "outputs"}
    (run / "outputs" / "o.go").touch()
    assert finished(task)["state"] == "succeeded"


def test_an_unknown_user_is_a_failed_task(machine: Machine, add: Add, finished: Finished) -> None:
    task = finished(add("true\n", run_as="no-such-user"))
    assert task["state"] == "failed"
    assert "there is no user 'no-such-user'" in task["status_reason"]
