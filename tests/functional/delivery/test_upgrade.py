# SPDX-License-Identifier: Apache-2.0
"""F45: the agent exchanges itself for another release, and is back as it was when that one cannot do its work (G10)."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guest_agent import VERSION
from guest_agent.state_dir import find_holder
from heat_workflow.releases import Releases
from heat_workflow.shapes import Join
from tests.faults import counts
from tests.functional.delivery.bare import BareGuest
from tests.functional.delivery.test_archive import run_a_task
from tests.harness.agent_releases import add_release
from tests.harness.callers import Operator
from tests.harness.machine import processes_of, wait_for
from tests.harness.servers import ApiProcess

GROUP = "heat-workflow-agent"
NEWER, OLDER = "99.1.0", "0.0.1"
PATIENCE = 90.0
Make = Callable[..., str]
MAIN, SERVE = "guest_agent/main.py", "    leave_out_charset_detection()\n"
# What is wrong with a release that passes for good until it is the agent, and what is told of it.
BROKEN = {
    "falls": ({MAIN: (SERVE, "    raise RuntimeError('fell')\n")}, "it left no word"),
    "mute": ({MAIN: (SERVE, "    time.sleep(1000)\n")}, "it left no word"),
    "mute with the lock": (
        {MAIN: (SERVE, "    StateDir(load_config(path).state_dir).lock()\n    time.sleep(1000)\n")},
        "it left no word",
    ),
    "not understood": ({"guest_agent/api_client.py": ('"POST", "hello"', '"POST", "hullo"')}, "hullo"),
}


@pytest.fixture
def make_release(api: ApiProcess, release: str) -> Make:
    """A release beside those the API serves: this tree's, with a version and with texts in it exchanged."""

    def make(version: str = NEWER, edits: dict[str, tuple[str, str]] | None = None) -> str:
        return add_release(Releases(api.agents), release, version, edits or {})

    return make


class Cloud:
    """One machine with a running agent of this tree's release, and the operator who upgrades it."""

    def __init__(self, guest: BareGuest, join: Join, release: str, operator: Operator) -> None:
        self.guest = guest
        self.release = release
        self.operator = operator
        self._agent = f"/v1/agents/{join['agent_id']}"
        Path(guest.layout.per_boot).mkdir()
        guest.boot(join, release)
        run_a_task(operator)

    def order(self, **inputs: Any) -> dict[str, Any]:
        workflow = self.operator.workflow(name=uuid.uuid4().hex)
        definition = {"group": GROUP, "config": ""}
        return self.operator.task(workflow, definition=definition, input_values=inputs, server="s1")

    def outcome(self, task: dict[str, Any]) -> dict[str, Any]:
        """The task when it has ended."""
        shown: dict[str, Any] = {}

        def ended() -> bool:
            shown.update(self.operator.show(task, wait=20))
            return shown["state"] in ("succeeded", "failed", "cancelled")

        wait_for(ended, PATIENCE)
        return shown

    def version(self) -> str:
        """What the agent said last of itself."""
        return str(self.operator.call("GET", self._agent).json()["version"])

    def slots(self) -> tuple[str, str]:
        """The digests of the release that is started and of the one before."""
        current, previous = (self.guest.home / f"{name}.pyz" for name in ("current", "previous"))
        return current.readlink().stem, previous.readlink().stem if previous.is_symlink() else ""

    def files(self) -> set[str]:
        """The digests of the releases on the machine."""
        return {path.stem for path in self.guest.home.glob("*.pyz") if not path.is_symlink()}

    def agent(self) -> int | None:
        """The pid of the agent that runs."""
        return find_holder(str(self.guest.state))

    def is_as_before(self) -> None:
        """The agent is the one of the beginning, no other is left, and it works."""
        wait_for(lambda: self.slots()[0] == self.release and not (self.guest.home / "trial").exists(), PATIENCE)
        run_a_task(self.operator)
        assert self.version() == VERSION
        assert self.files() == {self.release}


@pytest.fixture
def cloud(guest: BareGuest, join: Join, release: str, operator: Operator) -> Cloud:
    return Cloud(guest, join, release, operator)


def test_f45_the_agent_becomes_another_release_and_reports_that_itself(cloud: Cloud, make_release: Make) -> None:
    newer = make_release()
    done = cloud.outcome(cloud.order(sha256=newer, version=NEWER))
    assert done["state"] == "succeeded", done
    assert "it runs here and is version 99.1.0" in done["deploy_stdout"]
    assert cloud.version() == NEWER
    assert cloud.slots() == (newer, cloud.release)
    assert not (cloud.guest.home / "trial").exists()
    run_a_task(cloud.operator)
    again = cloud.outcome(cloud.order(sha256=newer))
    assert again["state"] == "succeeded"
    assert "this release is the agent already" in again["deploy_stdout"]
    older = make_release(OLDER)
    back = cloud.outcome(cloud.order(sha256=older, allow_older=True))
    assert back["state"] == "succeeded", back
    assert cloud.files() == {newer, older}, "two slots, no third"


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_f45_a_release_that_begins_no_session_is_rolled_back(how: str, cloud: Cloud, make_release: Make) -> None:
    edits, words = BROKEN[how]
    done = cloud.outcome(cloud.order(sha256=make_release(edits=edits), trial_seconds=12))
    assert done["state"] == "failed"
    assert "the new agent began no session in 12 s" in done["status_reason"]
    assert words in done["status_reason"]
    assert "rolled back" in done["deploy_stdout"]
    cloud.is_as_before()


def test_f45_what_cannot_be_good_is_refused_before_the_agent_is_touched(cloud: Cloud, make_release: Make) -> None:
    agent, nowhere = cloud.agent(), "0" * 64
    broken = make_release(edits={MAIN: ("import argparse\n", "import argparse, (\n")})
    for inputs, words in (
        ({"sha256": nowhere}, f"there is no agent '{nowhere}'"),
        ({"sha256": broken}, "it does not run on this machine"),
        ({"sha256": make_release(OLDER)}, f"it is version {OLDER}, older than {VERSION}"),
        ({"sha256": make_release(), "version": "99.2.0"}, "it is version 99.1.0, not 99.2.0"),
        ({"sha256": "../../etc/passwd"}, "sha256 is the digest of a release"),
        ({"sha256": nowhere, "trial_seconds": "soon"}, "trial_seconds is a number of seconds"),
        ({"sha256": nowhere, "allow_older": "perhaps"}, "allow_older is true or false"),
        ({"sha256": nowhere, "url": "https://evil.example"}, "unknown input url"),
    ):
        done = cloud.outcome(cloud.order(**inputs))
        assert done["state"] == "failed"
        assert words in done["status_reason"], (words, done["status_reason"])
    assert cloud.agent() == agent
    assert cloud.slots() == (cloud.release, "")
    cloud.is_as_before()


def test_f45_a_hook_ended_in_the_trial_brings_the_agent_before_back(cloud: Cloud, make_release: Make) -> None:
    task = cloud.order(sha256=make_release(edits=BROKEN["not understood"][0]), trial_seconds=600)
    wait_for(lambda: (cloud.guest.home / "trial").exists(), PATIENCE)
    _end_hook(cloud.guest, signal.SIGTERM)
    assert cloud.outcome(task)["state"] == "failed"
    cloud.is_as_before()


@pytest.mark.parametrize("why", ["its time is over", "the machine was restarted"])
def test_f45_a_trial_that_nobody_judges_ends_at_the_next_start(why: str, cloud: Cloud, make_release: Make) -> None:
    """The hook itself was killed: what starts the agent puts the one before back."""
    task = cloud.order(sha256=make_release(edits=BROKEN["falls"][0]), trial_seconds=600)
    trial = cloud.guest.home / "trial"
    wait_for(trial.exists, PATIENCE)
    wait_for(lambda: cloud.slots()[0] != cloud.release)
    _end_hook(cloud.guest, signal.SIGKILL)
    mark = {**json.loads(trial.read_text()), **({"until": 0.0} if why == "its time is over" else {"boot_id": "before"})}
    trial.write_text(json.dumps(mark))
    cloud.guest.says("upgrade: the new agent has not proved itself, the one before it is back")
    assert cloud.outcome(task)["state"] == "failed"
    assert cloud.slots()[0] == cloud.release
    run_a_task(cloud.operator)
    assert cloud.outcome(cloud.order(sha256=make_release()))["state"] == "succeeded"


def _end_hook(guest: BareGuest, number: int) -> None:
    (run,) = (guest.state / "run").iterdir()
    for pid in processes_of(f"HW_RUN={run.name}"):
        os.kill(pid, number)


def test_f45_g10_a_hook_goes_on_while_its_agent_is_exchanged_by_hand(
    cloud: Cloud, make_release: Make, api: ApiProcess, tmp_path: Path
) -> None:
    """Some tool other than ours puts the new file there and has the agent started again, in mid-hook."""
    newer, go, starts = make_release(), tmp_path / "go", tmp_path / "starts"
    script = f"echo x >> {starts}\nwhile [ ! -e {go} ]; do sleep 0.05; done\nprintf kept > $heat_outputs_path.y\n"
    definition = {"group": "script", "config": script, "outputs": [{"name": "y"}]}
    task = cloud.operator.task(cloud.operator.workflow(), definition=definition, server="s1")
    wait_for(starts.exists)
    (cloud.guest.home / f"{newer}.pyz").write_bytes((api.agents / f"{newer}.pyz").read_bytes())
    fresh = cloud.guest.home / "fresh"
    fresh.symlink_to(f"{newer}.pyz")
    fresh.rename(cloud.guest.home / "current.pyz")
    agent = cloud.agent()
    assert agent is not None
    os.kill(agent, signal.SIGHUP)
    wait_for(lambda: cloud.version() == NEWER)
    go.touch()
    done = cloud.outcome(task)
    assert (done["state"], done["outputs"]["y"]) == ("succeeded", "kept")
    assert starts.read_text() == "x\n"


def test_f45_power_cuts_in_an_upgrade_leave_an_agent_that_works(cloud: Cloud, make_release: Make) -> None:
    """At whatever moment all ends, the machine boots with a whole agent, the task ends once, the next one is done."""
    chance = random.Random(45)
    releases = [make_release(f"99.{number}.0") for number in (1, 2)]
    for number in range(counts.F45_CUTS):
        task = cloud.order(sha256=releases[number % 2], allow_older=True)
        time.sleep(chance.uniform(0.0, 4.0))
        cloud.guest.end()
        cloud.guest.boot_again()
        assert cloud.outcome(task)["state"] in ("succeeded", "failed")
        run_a_task(cloud.operator)
        assert cloud.slots()[0] in cloud.files()


def test_an_agent_that_user_data_did_not_install_is_left_alone(
    tmp_path: Path, pyz: Path, operator: Operator, make_release: Make
) -> None:
    from tests.functional.delivery.test_archive import Guest

    agent_id, token = operator.register(server="s1")
    guest = Guest(tmp_path / "guest", operator.url, agent_id, token)
    guest.pyz = pyz
    guest.start()
    try:
        definition = {"group": GROUP, "config": ""}
        inputs = {"sha256": make_release()}
        task = operator.task(operator.workflow(), definition=definition, input_values=inputs, server="s1")
        done = operator.show(task, wait=45)
        assert done["state"] == "failed"
        assert "was not installed by user_data" in done["status_reason"]
    finally:
        guest.end()
