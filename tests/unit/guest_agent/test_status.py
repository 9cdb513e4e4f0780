# SPDX-License-Identifier: Apache-2.0
"""Status: what the operator is told."""

from __future__ import annotations

from pathlib import Path

from guest_agent.main import main
from guest_agent.state_dir import StateDir
from guest_agent.status import Status, StatusFile, describe, find_status

AGENT = "0b6e3f5c-6f0b-4a51-9e5e-2f3a5e2d0c11"


def test_trouble_and_contact_are_found_again(state: StateDir) -> None:
    status = StatusFile(state.root, AGENT)
    status.trouble("API is away", "try again")
    found = find_status(state.path)
    assert found is not None
    assert (found.last_error, found.next_step, found.last_contact) == ("API is away", "try again", 0.0)
    status.contact("wait for a task")
    found = find_status(state.path)
    assert found is not None
    assert (found.last_error, found.next_step) == ("", "wait for a task")
    assert found.last_contact > 0


def test_the_exit_code_is_0_only_for_a_running_agent_in_contact() -> None:
    well = Status(AGENT, last_contact=1000.0, next_step="wait for a task")
    assert describe(well, alive=True, now=1060.0)[1] == 0
    assert describe(well, alive=False, now=1060.0)[1] == 1
    assert describe(well, alive=True, now=2000.0)[1] == 1
    text, code = describe(Status(AGENT, 1000.0, "refused", 1001.0, "try again"), alive=True, now=1060.0)
    assert code == 1
    assert "refused" in text
    assert "try again" in text


def test_s40_an_error_that_repeats_what_the_other_side_said_is_one_plain_line() -> None:
    text, _ = describe(Status(AGENT, 1000.0, "refused \x1b[2J\nnext step  none", 1001.0), alive=True, now=1060.0)
    assert r"refused \x1b[2J\nnext step  none" in text
    assert len(text.splitlines()) == 5


def test_an_agent_that_was_never_set_up_is_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "agent.conf"
    assert main(["status", "--config", str(config)]) == 2
    config.write_text(f"[agent]\napi_url = https://a\nagent_id = {AGENT}\nstate_dir = {tmp_path}/state\n")
    assert main(["status", "--config", str(config)]) == 2
