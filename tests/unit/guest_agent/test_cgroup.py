# SPDX-License-Identifier: Apache-2.0
"""Control groups of hooks: real ones, and what is done where there is none (S78)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest_agent import cgroup as cgroups
from guest_agent import processes, supervision
from guest_agent.cgroup import Cgroup, find_cgroup, make_cgroup
from guest_agent.folder import Folder
from guest_agent.hooks.contract import OUTPUTS_FOLDER
from guest_agent.order import CONTROL_PIPE, Order
from guest_agent.supervision import Ending, Supervision
from guest_agent.task import Attempt
from tests.harness.chains import PYTHON, chains, end_marked, marked, running
from tests.harness.machine import wait_for

NOBODY = 65534


@pytest.fixture
def group(root: None) -> Iterator[Cgroup]:
    made = make_cgroup(uuid.uuid4().hex)
    assert made is not None, "this machine has no cgroup version 2 that root can write: the tests need one"
    yield made
    made.kill()
    wait_for(lambda: not made.is_populated())
    made.remove()
    assert not os.path.exists(made.path)


def start_within(group: Cgroup, *command: str) -> None:
    door = group.open_door()
    subprocess.Popen(command, preexec_fn=lambda: os.write(door, b"0"), stderr=subprocess.DEVNULL).wait()
    os.close(door)


@pytest.mark.parametrize("kill", [Cgroup.kill, Cgroup.kill_frozen], ids=["by one word", "on an older kernel"])
def test_s78_chains_that_fork_and_end_are_ended_with_their_group(
    kill: Callable[[Cgroup], None], group: Cgroup, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    start_within(group, "sh", "-c", chains(trace))
    assert running(trace)
    assert group.is_populated()
    kill(group)
    wait_for(lambda: not group.is_populated())
    assert not running(trace)


def test_s78_a_group_that_a_hook_makes_below_its_own_is_ended_and_removed_with_it(group: Cgroup) -> None:
    mark = uuid.uuid4().hex
    move = f"mkdir -p {group.path}/a/b; echo 0 > {group.path}/a/b/cgroup.procs; sleep 50 # {mark}"
    start_within(group, "sh", "-c", f"sh -c '{move}' {mark} &")
    wait_for(lambda: os.path.exists(f"{group.path}/a/b") and Cgroup(f"{group.path}/a/b").pids())
    assert group.pids()
    group.kill()
    wait_for(lambda: not group.is_populated())


def test_a_group_is_found_by_its_hook_and_stays_while_something_runs_in_it(group: Cgroup) -> None:
    start_within(group, "sh", "-c", "sleep 50 &")
    name = os.path.basename(group.path)[len(cgroups.PREFIX) :]
    found = find_cgroup(name)
    assert found is not None
    assert found.pids() == group.pids()
    group.remove()
    assert os.path.exists(group.path)
    assert find_cgroup("0" * 32) is None


def test_an_old_group_of_which_all_has_ended_is_removed_when_another_is_made(
    group: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = make_cgroup(uuid.uuid4().hex)
    assert empty is not None
    start_within(group, "sh", "-c", "sleep 50 &")
    monkeypatch.setattr(cgroups, "_FORGOTTEN_AFTER", -1.0)
    another = make_cgroup(uuid.uuid4().hex)
    assert another is not None
    assert not os.path.exists(empty.path)
    assert os.path.exists(group.path), "something runs in it"
    another.remove()


def _order(script: str, spool: str) -> Order:
    return Order(
        attempt=Attempt(str(uuid.uuid4()), 1, str(uuid.uuid4())),
        hook="script",
        spool=spool,
        argv=("/bin/sh", "-c", script),
        env={"PATH": os.environ["PATH"]},
        stdin="stdin",
        cwd="/",
        shell_fallback=False,
        answers=False,
        outputs=(),
        notes=(),
        timeout=0.5,
        deadline_in=None,
        started={},
        on_interrupt="fail",
        user=None,
    )


def _supervise(directory: Path, script: str, prepare: Callable[[], object]) -> Ending:
    """How it ended under a process of its own, which has little patience."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            processes.adopt_orphans()
            supervision.GRACE, supervision.GIVE_UP = 0.3, 2.0
            os.mkfifo(directory / CONTROL_PIPE)
            (directory / "stdin").touch()
            (directory / OUTPUTS_FOLDER).mkdir()
            made = Supervision(_order(script, str(directory)), Folder(str(directory)))
            os.write(write, json.dumps(made.run_to_end().__dict__).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as file:
        text = file.read()
    os.waitpid(child, 0)
    return Ending(**json.loads(text))


def _as_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def test_s78_a_process_that_the_agent_may_not_kill_is_told_by_its_pid(open_home: Path) -> None:
    """The agent is not root, so it gets no group either, and its hook starts a program that becomes root."""
    become = open_home / "setpriv"
    shutil.copy(str(shutil.which("setpriv")), become)
    become.chmod(0o4755)
    run = open_home / "run"
    run.mkdir()
    os.chown(run, NOBODY, NOBODY)
    mark = uuid.uuid4().hex
    ending = _supervise(run, f"{become} --reuid=0 {PYTHON} -c 'import time; time.sleep(50)' {mark}", _as_nobody)
    pids = marked(mark)
    try:
        assert ending.stopped == "timed_out"
        assert pids
        assert ending.survivors.startswith("processes of the hook may still be running in spite of SIGKILL: pids ")
        assert all(str(pid) in ending.survivors for pid in pids)
        assert "no cgroup" in ending.survivors
    finally:
        end_marked(mark)


def test_s78_what_was_told_to_have_ended_has_ended_also_without_a_group(open_home: Path) -> None:
    """Five times: chains of another user than root."""
    for number in range(5):
        run = open_home / str(number)
        run.mkdir()
        os.chown(run, NOBODY, NOBODY)
        ending = _supervise(run, f"{chains(run / 'trace')}; sleep 50", _as_nobody)
        left = running(run / "trace")
        (run / "trace").unlink()
        assert ending.survivors or not left
