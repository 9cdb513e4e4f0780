# SPDX-License-Identifier: Apache-2.0
"""The agent as one file, run as a process by every Python there is, against the real API (S50, exit codes)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.delivery.pythons import NAMES, interpreter
from tests.harness.callers import Operator
from tests.harness.machine import Machine, wait_for

EVIL = "import os; open(os.environ['CANARY'], 'a').write(__name__ + '\\n')\n"


class Guest(Machine):
    """A guest that runs the agent's file; ``isolated`` False leaves out ``-I``."""

    python = sys.executable
    isolated = True
    pyz: Path

    def command(self, *arguments: str) -> list[str]:
        return [self.python, *(["-I"] if self.isolated else []), str(self.pyz), *arguments]

    def ask(self, verb: str, **options: str) -> subprocess.CompletedProcess[str]:
        command = self.command(verb, "--config", str(self.config))
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **options}
        )

    def start(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run", "--config", str(self.config)),
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **environment},
            )


Boot = Callable[..., Guest]


@pytest.fixture
def guest(tmp_path: Path, pyz: Path, operator: Operator) -> Iterator[Guest]:
    """A guest for server ``s1``, its agent neither enrolled nor running."""
    agent_id, token = operator.register(server="s1")
    made = Guest(tmp_path / "guest", operator.url, agent_id, token)
    made.pyz = pyz
    yield made
    made.end()


def run_a_task(operator: Operator) -> None:
    definition = {
        "group": "script",
        "config": '#!/bin/sh\nprintf "$word" >$heat_outputs_path.said\n',
        "inputs": [{"name": "word"}],
        "outputs": [{"name": "said"}],
    }
    workflow = operator.workflow(name=uuid.uuid4().hex)
    task = operator.task(workflow, definition=definition, input_values={"word": "grüße"}, server="s1")
    shown = operator.show(task, wait=45)
    assert (shown["state"], shown["outputs"]) == ("succeeded", {"said": "grüße"}), shown


@pytest.mark.parametrize("version", NAMES)
def test_it_enrolls_runs_and_tells_its_status_under_each_python(version: str, guest: Guest, operator: Operator) -> None:
    guest.python = interpreter(version)
    _enroll_run_and_tell(guest, operator, version)


def test_it_enrolls_runs_and_tells_its_status_under_the_python_of_debian_13(
    debian_13: str, guest: Guest, operator: Operator
) -> None:
    guest.python = debian_13
    _enroll_run_and_tell(guest, operator, "3.13")


def _enroll_run_and_tell(guest: Guest, operator: Operator, version: str) -> None:
    assert guest.ask("status").returncode == 2, "never enrolled"
    enrolled = guest.ask("enroll")
    assert (enrolled.returncode, enrolled.stdout) == (0, f"agent {guest.agent_id}: enrolled\n"), enrolled.stderr
    assert guest.ask("status").returncode == 1, "not running"
    guest.start()
    run_a_task(operator)
    wait_for(lambda: guest.ask("status").returncode == 0)
    assert operator.call("GET", f"/v1/agents/{guest.agent_id}").json()["inventory"]["python"].startswith(version)
    assert guest.kill(signal.SIGTERM) == 0
    assert guest.ask("status").returncode == 1


def test_a_refused_join_token_is_exit_status_1_with_words_and_no_token(guest: Guest, operator: Operator) -> None:
    agent_id, token = operator.register()
    wrong = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    guest.agent_id = agent_id
    guest.configure(operator.url, wrong)
    refused = guest.ask("enroll")
    assert refused.returncode == 1
    assert " 401 " in refused.stderr
    assert wrong not in refused.stdout + refused.stderr


def test_without_settings_it_is_exit_status_2(guest: Guest) -> None:
    guest.config.unlink()
    for verb in ("enroll", "run", "status"):
        assert guest.ask(verb).returncode == 2, verb


@pytest.fixture
def evil(tmp_path: Path, guest: Guest) -> dict[str, str]:
    """Modules that betray themselves, in every place an environment can name, and in the current directory."""
    planted = tmp_path / "evil"
    site = planted / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    for place in (planted, site, guest.directory):
        for name in ("json", "requests", "guest_agent", "sitecustomize", "usercustomize", "zygote"):
            (place / f"{name}.py").write_text(EVIL)
    canary = tmp_path / "canary"
    canary.touch()
    return {"CANARY": str(canary), "PYTHONPATH": str(planted), "PYTHONUSERBASE": str(planted), "PYTHONHOME": ""}


def test_s50_nothing_of_the_environment_or_the_current_directory_is_imported(
    guest: Guest, evil: dict[str, str], operator: Operator
) -> None:
    guest.start(**evil)
    run_a_task(operator)
    assert Path(evil["CANARY"]).read_text() == ""


def test_s50_started_without_i_it_starts_itself_again_with_it(
    guest: Guest, evil: dict[str, str], operator: Operator
) -> None:
    for custom in ("sitecustomize.py", "usercustomize.py"):  # python itself imports these before anything of ours
        for path in Path(evil["PYTHONPATH"]).rglob(custom):
            path.unlink()
    guest.isolated = False
    guest.start(**evil)
    run_a_task(operator)
    assert guest.process is not None
    assert b"-I" in Path(f"/proc/{guest.process.pid}/cmdline").read_bytes().split(b"\0")
    assert Path(evil["CANARY"]).read_text() == ""


def test_s50_libraries_that_the_machine_has_are_not_used_in_place_of_its_own(guest: Guest) -> None:
    code = (
        "import sys, runpy; sys.argv = ['x', '--version']; sys.path.insert(0, sys.argv.pop(0) and '%s')\n"
        "try: runpy.run_path('%s', run_name='__main__')\nexcept SystemExit: pass\n"
        "import requests, urllib3, certifi\n"
        "print([module.__file__ for module in (requests, urllib3, certifi)])\n"
    )
    shown = subprocess.run(
        [guest.python, "-I", "-c", code % (guest.pyz, guest.pyz)], capture_output=True, text=True, check=True
    )
    assert shown.stdout.count(str(guest.pyz)) == 3, shown.stdout


@pytest.mark.parametrize("verb", ["run", "enroll"])
@pytest.mark.parametrize(
    ("what", "mode"), [("opt", 0o777), ("opt", 0o775), ("opt/heat-workflow-agent.pyz", 0o666)], ids=str
)
def test_s50_a_file_that_others_can_change_is_not_run(
    verb: str, what: str, mode: int, guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / what).chmod(mode)
    refused = guest.ask(verb)
    assert refused.returncode == 1
    assert "by others" in refused.stderr
    assert not guest.state.exists()
