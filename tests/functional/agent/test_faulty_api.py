# SPDX-License-Identifier: Apache-2.0
"""The whole agent against an API that misbehaves as told, and being killed at it (G4, G10, G12, G25)."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guest_agent.records import decode, encode
from guest_agent.spool import Spool
from guest_agent.state_dir import StateDir, boot_id
from guest_agent.task import read_attempt
from tests.harness.machine import Machine, wait_for
from tests.harness.small_api import Api, Call, Wire, serving, wire_task

AGENT = str(uuid.uuid4())
JOIN = f"hwj1.{AGENT.replace('-', '')}.{'j' * 43}"


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as book:
        yield book


@pytest.fixture
def guest(tmp_path: Path, api: Api) -> Iterator[Machine]:
    """A guest whose agent the test starts."""
    made = Machine(tmp_path, api.url, AGENT, JOIN)
    yield made
    made.end()


@pytest.fixture
def machine(guest: Machine) -> Machine:
    """A guest with its agent running."""
    guest.start()
    return guest


def test_it_enrolls_says_hello_and_runs_what_it_claims(machine: Machine, api: Api) -> None:
    first = api.add(wire_task("echo one\n"))
    second = api.add(wire_task("printf two > ${heat_outputs_path}.o\n", outputs=[{"name": "o"}]))
    assert api.report_of(first)["deploy_stdout"] == "one\n"
    assert api.report_of(second)["outputs"] == {"o": "two"}
    assert api.names()[:5] == ["enroll", "hello", "claim", "report", "report"]
    enroll, hello, claim = api.calls[:3]
    assert enroll.token == JOIN
    secret = hello.token.rpartition(".")[2]
    assert enroll.body["credential_sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert hello.body["nonce"] == claim.body["nonce"]
    assert claim.token == hello.token
    log = machine.log.read_text()
    assert secret not in log
    assert JOIN not in log
    assert machine.kill(signal.SIGTERM) == 0


def test_a_lost_answer_to_enroll_is_asked_for_again_with_the_same_secret(guest: Machine, api: Api) -> None:
    def lost(_call: Call) -> tuple[int, Wire | None]:
        raise ConnectionResetError

    api.answers["enroll"] = lost
    guest.start()
    wait_for(lambda: "enroll" in api.names())
    guest.kill()
    del api.answers["enroll"]
    guest.start()
    wait_for(lambda: "claim" in api.names())
    guest.kill()
    assert len({call.body["credential_sha256"] for call in api.calls if call.name == "enroll"}) == 1
    guest.start()
    enrolled = api.names().count("enroll")
    wait_for(lambda: api.names().count("hello") == 2)
    guest.kill()
    assert api.names().count("enroll") == enrolled


@pytest.mark.parametrize(
    ("group", "status", "words"),
    [("no/such", "failed", "unknown hook 'no/such': this agent has"), ("Heat::Ungrouped", "succeeded", "nothing was")],
)
def test_a_group_without_a_hook_is_reported_and_nothing_is_executed(
    machine: Machine, api: Api, tmp_path: Path, group: str, status: str, words: str
) -> None:
    report = api.report_of(api.add(wire_task(f"touch {tmp_path}/ran\n", group=group)))
    assert report["status"] == status
    assert words in report["reason"]
    assert not (tmp_path / "ran").exists()


def test_g10_a_killed_agent_finds_its_hook_again_and_reports_it(machine: Machine, api: Api, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/starts; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done\n"
    task = api.add(wire_task(script))
    wait_for((tmp_path / "starts").exists)
    machine.kill()
    machine.start()
    wait_for(lambda: api.names().count("hello") == 2)
    hello = [call for call in api.calls if call.name == "hello"][1]
    assert [entry["task_id"] for entry in hello.body["journal"]] == [task]
    assert hello.body["previous_nonce"] == next(call for call in api.calls if call.name == "hello").body["nonce"]
    wait_for(lambda: "heartbeat" in api.names())
    (tmp_path / "go").touch()
    assert api.report_of(task)["status"] == "succeeded"
    assert (tmp_path / "starts").read_text() == "x\n"


def test_an_outcome_that_was_not_acked_is_reported_after_the_restart(
    machine: Machine, api: Api, tmp_path: Path
) -> None:
    api.answers["report"] = lambda _call: (503, {"errors": [{"code": "unavailable", "detail": "later"}]})
    task = api.add(wire_task(f"echo x >> {tmp_path}/starts; echo said\n"))
    wait_for(lambda: "report" in api.names())
    machine.kill()
    del api.answers["report"]
    machine.start()
    assert api.report_of(task)["deploy_stdout"] == "said\n"
    assert (tmp_path / "starts").read_text() == "x\n"
    wait_for(lambda: machine.spooled() == ["last", "past"])


@pytest.mark.parametrize(
    ("fate", "words"), [("killed", "hook lost"), ("damaged", "agent state lost"), ("rebooted", "interrupted by reboot")]
)
def test_a_hook_that_is_gone_without_an_outcome_is_a_failure_and_not_run_again(
    machine: Machine, api: Api, tmp_path: Path, fate: str, words: str
) -> None:
    script = (
        f"echo x >> {tmp_path}/starts; echo $PPID > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/shim; sleep 100\n"
    )
    task = api.add(wire_task(script))
    wait_for((tmp_path / "shim").exists)
    machine.kill()
    os.kill(int((tmp_path / "shim").read_text()), signal.SIGKILL)
    (started,) = (machine.state / "spool").glob("*.started")
    if fate == "damaged":
        started.write_bytes(b"hw1 0")
    elif fate == "rebooted":
        started.write_bytes(encode({**decode(started.read_bytes(), "started"), "boot_id": "another"}))
    machine.start()
    report = api.report_of(task)
    assert report["status"] == "failed"
    assert words in report["reason"]
    assert (tmp_path / "starts").read_text() == "x\n"


def test_g8_a_cancel_learnt_by_heartbeat_stops_the_hook(machine: Machine, api: Api, tmp_path: Path) -> None:
    task = api.add(wire_task(f"touch {tmp_path}/up; sleep 100\n"))
    wait_for((tmp_path / "up").exists)
    api.cancelled.add(task)
    assert api.report_of(task)["status"] == "cancelled"


def test_a_report_the_api_will_never_take_becomes_a_bare_failure(machine: Machine, api: Api) -> None:
    def pick(call: Call) -> tuple[int, Wire | None]:
        if call.body["deploy_stdout"]:
            return 422, {"errors": [{"code": "invalid", "detail": "too odd"}]}
        api.reports[call.path.split("/")[-2]] = call.body
        return 200, {"state": "failed", "task": None}

    api.answers["report"] = pick
    report = api.report_of(api.add(wire_task("echo odd\n")))
    assert report["status"] == "failed"
    assert "too odd" in report["reason"]


def test_g25_a_revoked_agent_wipes_itself_and_stops(machine: Machine, api: Api) -> None:
    api.report_of(api.add(wire_task("true\n")))
    api.answers["claim"] = lambda _call: (410, {"errors": [{"code": "revoked", "detail": "gone"}]})
    assert machine.process is not None
    assert machine.process.wait(20) == 0
    assert list((machine.state / "spool").iterdir()) == []
    assert not (machine.state / "credential").exists()


def test_a_new_join_token_in_the_settings_is_found_after_a_refusal(machine: Machine, api: Api) -> None:
    wait_for(lambda: "claim" in api.names())
    old = next(call for call in api.calls if call.name == "hello").token
    fresh = JOIN[:-1] + "k"
    machine.configure(api.url, fresh)
    problem = {"errors": [{"code": "unauthenticated", "detail": "the token is not valid here"}]}
    api.answers["claim"] = lambda call: (401, problem) if call.token == old else (204, None)
    wait_for(lambda: [call.token for call in api.calls if call.name == "enroll"] == [JOIN, fresh])
    wait_for(lambda: api.calls[-1].name == "claim" and api.calls[-1].token != old)


def test_a_secret_is_rotated_when_the_api_asks_and_the_new_one_is_used(guest: Machine, api: Api) -> None:
    api.answers["hello"] = lambda _call: (200, {"max_wait": 2, "rotate": True, "rotate_after": 43200})
    guest.start()
    wait_for(lambda: "claim" in api.names() and "credential" in api.names())
    rotate = next(call for call in api.calls if call.name == "credential")
    secret = next(call for call in api.calls if call.name == "claim").token.rpartition(".")[2]
    assert rotate.body == {"next_sha256": hashlib.sha256(secret.encode()).hexdigest()}
    assert rotate.token == next(call for call in api.calls if call.name == "hello").token
    guest.kill()
    guest.start()
    wait_for(lambda: api.names().count("hello") == 2)
    assert [call for call in api.calls if call.name == "hello"][1].token.rpartition(".")[2] == secret


def test_an_older_secret_is_tried_only_after_a_refusal(guest: Machine, api: Api) -> None:
    """As after a restore of the API's store to a state before the rotation."""
    problem = {"errors": [{"code": "unauthenticated", "detail": "the token is not valid here"}]}
    api.answers["hello"] = lambda _call: (200, {"max_wait": 2, "rotate": True, "rotate_after": 43200})
    guest.start()
    wait_for(lambda: "claim" in api.names())
    first, rotated = api.calls[1].token, next(call for call in api.calls if call.name == "claim").token
    guest.kill()
    api.answers["hello"] = lambda call: (200, {"max_wait": 2}) if call.token == first else (401, problem)
    seen = len(api.calls)
    guest.start()
    wait_for(lambda: "claim" in [call.name for call in api.calls[seen:]])
    assert [call.token for call in api.calls[seen:]][:3] == [rotated, first, first]


ODD: list[Any] = [float("nan"), float("inf"), 1e308, -1, 0, 1e-9, True, None, "x", [], 10**400]


@pytest.mark.parametrize("name", ["max_wait", "heartbeat_interval", "rotate_after"])
def test_s80_an_api_that_wishes_impossible_numbers_ends_no_agent_and_starts_no_storm(
    name: str, guest: Machine, api: Api
) -> None:
    for value in ODD:
        api.calls.clear()
        api.answers["hello"] = lambda _call: (200, {"max_wait": 1, name: value})  # noqa: B023
        guest.start()
        began = time.monotonic()
        assert api.report_of(api.add(wire_task("true\n")))["status"] == "succeeded", value
        wait_for(lambda: api.names().count("claim") >= 2)
        assert 0 <= api.calls[-1].body.get("wait", 0) <= 120
        assert api.names().count("credential") == 0, value
        assert api.names().count("claim") <= 3 + (time.monotonic() - began), value
        guest.kill()


def test_s80_a_heartbeat_answered_with_nonsense_is_followed_by_others_and_a_cancel_still_counts(
    machine: Machine, api: Api, tmp_path: Path
) -> None:
    task = api.add(wire_task(f"touch {tmp_path}/up; sleep 100\n"))
    wait_for((tmp_path / "up").exists)
    odd: Iterator[Wire] = iter([{"cancel": "no", "grace": float("nan")}, {"cancel": 1, "grace": "x"}])
    api.answers["heartbeat"] = lambda _call: (200, next(odd, {"cancel": True, "grace": []}))
    assert api.report_of(task)["status"] == "cancelled"
    assert next(odd, None) is None


@pytest.mark.parametrize("field", ["attempt", "id", "claim_id"])
def test_s80_a_task_that_cannot_even_be_named_is_not_run_and_the_next_one_is(
    field: str, machine: Machine, api: Api, tmp_path: Path
) -> None:
    wait_for(lambda: "claim" in api.names())
    bad = wire_task(f"touch {tmp_path}/ran\n")
    api.answers["claim"] = lambda _call: (200, {"task": {**bad, field: float("inf")}})
    wait_for(lambda: "without a readable id" in machine.log.read_text())
    del api.answers["claim"]
    assert api.report_of(api.add(wire_task("true\n")))["status"] == "succeeded"
    assert not (tmp_path / "ran").exists()


def test_a_claim_taken_before_a_crash_is_asked_for_again_and_run_once(guest: Machine, tmp_path: Path, api: Api) -> None:
    """The agent was killed after it journaled the claim and before a shim could start the hook."""
    spool = Spool(StateDir(str(guest.state)).spool, boot_id())
    wire = wire_task(f"echo x >> {tmp_path}/starts\n", claim_id=spool.next_claim_id)
    spool.claim(read_attempt(wire))
    api.claims[wire["claim_id"]] = wire
    guest.start()
    assert api.report_of(wire["id"])["status"] == "succeeded"
    assert (tmp_path / "starts").read_text() == "x\n"
    hello = next(call for call in api.calls if call.name == "hello")
    assert [entry["stage"] for entry in hello.body["journal"]] == ["claimed"]


def test_g15_an_attempt_handed_out_again_after_a_restore_is_reported_again_and_not_run(
    machine: Machine, api: Api, tmp_path: Path
) -> None:
    wire = wire_task(f"echo x >> {tmp_path}/starts; echo said\n")
    api.report_of(api.add(wire))
    wait_for(lambda: api.calls[-1].name == "claim")
    api.reports.clear()
    api.add(wire)
    assert api.report_of(wire["id"])["deploy_stdout"] == "said\n"
    assert len({call.body["claim_id"] for call in api.calls if call.name == "report"}) == 2
    assert (tmp_path / "starts").read_text() == "x\n"


def test_s45_a_hidden_input_and_the_secret_stand_in_no_argv_and_no_environment(
    machine: Machine, api: Api, tmp_path: Path
) -> None:
    script = f"touch {tmp_path}/up; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done\n"
    task = api.add(wire_task(script, input_values={"password": "canary-7f3c"}, hidden_inputs=["password"]))
    wait_for((tmp_path / "up").exists)
    secret = next(call for call in api.calls if call.name == "hello").token.rpartition(".")[2]
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                data = (process / name).read_bytes()
            except OSError:
                continue
            assert b"canary-7f3c" not in data
            assert secret.encode() not in data
    (tmp_path / "go").touch()
    assert api.report_of(task)["status"] == "succeeded"
    assert "canary-7f3c" not in machine.log.read_text()


def test_f17_a_spool_that_is_taken_away_is_told_and_nothing_is_claimed(machine: Machine, api: Api) -> None:
    wait_for(lambda: "claim" in api.names())
    (machine.state / "spool").rename(machine.state / "elsewhere")
    shutil.rmtree(machine.state / "elsewhere")
    wait_for(lambda: "nothing is claimed until it can" in machine.log.read_text())
    claims = api.names().count("claim")
    task = api.add(wire_task("true\n"))
    machine.kill()
    machine.start()
    assert api.report_of(task)["status"] == "succeeded"
    assert api.names().count("claim") >= claims
