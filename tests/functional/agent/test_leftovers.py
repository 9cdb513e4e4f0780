# SPDX-License-Identifier: Apache-2.0
"""What hooks leave in their run directories: it keeps the agent from no report, no claim and no start (F52)."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.machine import Machine, wait_for
from tests.harness.small_api import Api, wire_task

AGENT = str(uuid.uuid4())
JOIN = f"hwj1.{AGENT.replace('-', '')}.{'j' * 43}"
INSIDE = 'cd "$(dirname "$heat_outputs_path")" || exit 9\n'
PYTHON = "python3 -c '{}'\n"
DIG = PYTHON.format('import os\nfor _ in range(1200): os.mkdir("d" * 50); os.chdir("d" * 50)')
LEFT = {
    "a tree too deep for recursion and paths": (DIG, ""),
    "the same of another user": (DIG, "nobody"),
    "folders closed to everybody": ("mkdir -p a/b; touch a/b/c; chmod 000 a/b a .\n", "nobody"),
    "names that are no text": (
        PYTHON.format('import os; [os.mkdir(n) for n in (b"\\xff\\n", b"\\xed\\xa0")]'),
        "nobody",
    ),
    "thousands of files": (PYTHON.format("for i in range(3000): open(str(i), chr(119))"), "nobody"),
    "pipes and links": ("mkfifo p; ln -s / root; ln -s loop loop\n", "nobody"),
    "its run directory gone": ("rm -rf ../../$HW_RUN\n", ""),
    "a link in place of its run directory": ("mv ../../$HW_RUN ../../x; ln -s / ../../$HW_RUN\n", ""),
    "a mount": ("mkdir m; mount -t tmpfs none m\n", ""),
    "a mount in place of its outputs": ("mount -t tmpfs none .\n", ""),
    "a mount in place of its run directory": ("mount -t tmpfs none ..\n", ""),
    "a file that nobody may remove": ("touch fixed; chattr +i fixed\n", ""),
}


@pytest.fixture
def guest(open_directory: Path, fake: Api) -> Iterator[Machine]:
    made = Machine(open_directory / "guest", fake.url, AGENT, JOIN)
    yield made
    made.end()
    subprocess.run(["chattr", "-R", "-f", "-i", str(made.state)], check=False)
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(str(made.state)):
            subprocess.run(["umount", line.split()[1]], check=True)


@pytest.mark.parametrize("what", LEFT)
def test_f52_nothing_a_hook_leaves_stops_a_report_a_claim_or_a_start(what: str, guest: Machine, fake: Api) -> None:
    script, run_as = LEFT[what]
    guest.start()
    report = fake.report_of(fake.add(wire_task(INSIDE + script, run_as=run_as)))
    assert report["status"] == "succeeded", report
    assert fake.report_of(fake.add(wire_task("echo on\n")))["deploy_stdout"] == "on\n"
    assert guest.process is not None
    assert guest.process.poll() is None
    guest.kill()
    guest.start()
    assert fake.report_of(fake.add(wire_task("echo again\n")))["deploy_stdout"] == "again\n"
    wait_for(lambda: guest.spooled() == ["last", "past"])


def test_f52_a_start_finds_what_an_agent_before_could_not_remove_and_removes_it(guest: Machine, fake: Api) -> None:
    guest.start()
    fake.report_of(fake.add(wire_task(INSIDE + "mkdir m; mount -t tmpfs none m\n")))
    wait_for(lambda: "cannot be removed, it is left aside" in guest.log.read_text())
    guest.kill()
    os.system(f"grep -o '{guest.state}[^ ]*' /proc/mounts | xargs -r umount")
    guest.start()
    fake.report_of(fake.add(wire_task("true\n")))
    wait_for(lambda: list((guest.state / "trash").iterdir()) == [])


def test_f52_a_folder_where_a_task_needs_a_file_fails_that_task_and_keeps_the_agent_from_no_other(
    guest: Machine, fake: Api, open_directory: Path
) -> None:
    hooks = open_directory / "hooks"
    hooks.mkdir()
    (hooks / "tool").write_text("#!/bin/sh\necho '{}'\n")
    (hooks / "tool").chmod(0o755)
    guest.configure(fake.url, JOIN, hooks_dirs=str(hooks))
    (open_directory / "live" / "heat-config").mkdir(parents=True)
    guest.start(HEAT_SHELL_CONFIG=str(open_directory / "live" / "heat-config"))
    report = fake.report_of(fake.add(wire_task("x", group="tool")))
    assert (report["status"], report["deploy_status_code"]) == ("failed", 126)
    assert "something is in the way of a file it needs: Is a directory" in report["reason"]
    assert fake.report_of(fake.add(wire_task("true\n")))["status"] == "succeeded"
