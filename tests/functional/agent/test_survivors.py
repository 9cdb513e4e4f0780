# SPDX-License-Identifier: Apache-2.0
"""What a hook has started is ended with it, or the report says that it may run on (S78): with a cgroup and without."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_agent.cgroup import find_cgroup
from tests.harness.chains import chains, end_marked, marked, running
from tests.harness.machine import Machine, is_alive, wait_for
from tests.harness.small_api import Api, serving, wire_task

AGENT = str(uuid.uuid4())
JOIN = f"hwj1.{AGENT.replace('-', '')}.{'j' * 43}"
HIDDEN = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh"]


class Guest(Machine):
    """One guest; without ``cgroups`` its agent sees none, as in most containers."""

    cgroups = True

    def start(self, **environment: str) -> None:
        agent = [sys.executable, "-m", "guest_agent", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            command = agent if self.cgroups else [*HIDDEN, *agent]
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, **environment})


@pytest.fixture
def fake() -> Iterator[Api]:
    with serving() as book:
        book.answers["heartbeat"] = lambda call: (
            200,
            {"lease": 60, "cancel": call.path.split("/")[-2] in book.cancelled, "grace": 0.3},
        )
        yield book


@pytest.fixture(params=[True, False], ids=["with a cgroup", "without"])
def guest(request: pytest.FixtureRequest, tmp_path: Path, fake: Api) -> Iterator[Guest]:
    made = Guest(tmp_path, fake.url, AGENT, JOIN)
    made.cgroups = request.param
    made.start()
    yield made
    made.end()


@pytest.fixture
def mark() -> Iterator[str]:
    """Names a test's processes; what is left of them is ended."""
    made = uuid.uuid4().hex
    yield made
    end_marked(made)


def alone(mark: str) -> str:
    """A process in a session of its own, without an environment, that no pipe and no parent holds on to."""
    return f"env -i /usr/bin/setsid /bin/sh -c 'sleep 300; : {mark}' </dev/null >/dev/null 2>&1 &"


def test_s78_chains_that_fork_and_end_do_not_outlive_a_cancel_or_are_told(
    guest: Guest, fake: Api, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    task = fake.add(wire_task(f"{chains(trace)}\ntouch {tmp_path}/up; sleep 100\n"))
    wait_for((tmp_path / "up").exists)
    fake.cancelled.add(task)
    report = fake.report_of(task)
    left = running(trace)
    trace.unlink()
    assert report["status"] == "cancelled"
    if guest.cgroups:
        assert not left
        assert "running" not in report["reason"]
    else:
        assert not left or "may still be running" in report["reason"]


def test_s78_what_emptied_its_environment_does_not_outlive_the_end_of_its_shim_or_that_is_told(
    guest: Guest, fake: Api, mark: str
) -> None:
    report = fake.report_of(fake.add(wire_task(f"{alone(mark)}\nsleep 0.3; kill -9 $PPID; sleep 50\n")))
    assert (report["status"], "hook lost" in report["reason"]) == ("failed", True)
    if guest.cgroups:
        assert marked(mark) == []
        assert "running" not in report["reason"]
    else:
        assert marked(mark) != [], "if this ends too, mend the words in the report"
        assert "emptied their environment may still be running" in report["reason"]
    assert fake.report_of(fake.add(wire_task("true\n")))["status"] == "succeeded"


def test_what_a_finished_hook_left_running_goes_on_and_is_no_matter_of_the_report(
    guest: Guest, fake: Api, mark: str
) -> None:
    report = fake.report_of(fake.add(wire_task(f"{alone(mark)}\ntrue\n")))
    assert (report["status"], report["reason"]) == ("succeeded", None)
    assert fake.report_of(fake.add(wire_task("true\n")))["status"] == "succeeded"
    guest.kill()
    guest.start()
    assert fake.report_of(fake.add(wire_task("true\n")))["status"] == "succeeded"
    assert [pid for pid in marked(mark) if is_alive(pid)]


def test_a_hook_that_has_ended_leaves_no_cgroup(guest: Guest, fake: Api, tmp_path: Path) -> None:
    script = f"echo $HW_RUN > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/run; sleep 100\n"
    task = fake.add(wire_task(script))
    wait_for((tmp_path / "run").exists)
    name = (tmp_path / "run").read_text().strip()
    assert (find_cgroup(name) is not None) == guest.cgroups
    fake.cancelled.add(task)
    assert fake.report_of(task)["status"] == "cancelled"
    assert find_cgroup(name) is None
