# SPDX-License-Identifier: Apache-2.0
"""The spool: what it remembers, and that a damaged record is never acted on (G4, G12, F16)."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from guest_agent import report as reports
from guest_agent.errors import DamagedRecord
from guest_agent.records import decode, encode, write_record
from guest_agent.spool import CLAIMED, FINISHED, STARTED, STATE_LOST, Spool
from guest_agent.state_dir import StateDir
from guest_agent.task import Attempt

BOOT = "boot-1"


def _spool(state: StateDir) -> Spool:
    return Spool(state.spool, BOOT)


def _claimed(spool: Spool) -> Attempt:
    attempt = Attempt(str(uuid.uuid4()), 1, spool.next_claim_id)
    spool.claim(attempt)
    return attempt


def _started(state: StateDir, spool: Spool) -> Attempt:
    """As the shim leaves it once the hook runs."""
    attempt = Attempt(str(uuid.uuid4()), 1, spool.next_claim_id)
    write_record(state.spool, f"{attempt.name}.{STARTED}", spool.claim(attempt))
    return attempt


def test_f16_a_record_survives_and_any_flipped_byte_or_cut_is_noticed() -> None:
    data = encode({"report": {"deploy_stdout": "grüße", "status": "succeeded"}})
    assert decode(data, "x")["report"]["deploy_stdout"] == "grüße"
    for place in range(len(data)):
        for bit in (0x01, 0x20, 0x80):
            changed = bytearray(data)
            changed[place] ^= bit
            with pytest.raises(DamagedRecord):
                decode(bytes(changed), "x")
    for length in range(len(data)):
        with pytest.raises(DamagedRecord):
            decode(data[:length], "x")


def test_the_claim_id_stays_until_a_task_has_come_under_it(state: StateDir) -> None:
    spool = _spool(state)
    first = spool.next_claim_id
    assert _spool(state).next_claim_id == first
    _claimed(spool)
    assert spool.next_claim_id != first


def test_the_next_claim_id_is_on_the_disk_before_it_is_used(state: StateDir) -> None:
    spool = _spool(state)
    for _ in range(3):
        attempt = _started(state, spool)
        assert _spool(state).next_claim_id == spool.next_claim_id
        spool.ack(attempt)
        assert _spool(state).next_claim_id == spool.next_claim_id
    assert state.spool.names() == ["last", "past"]


def test_each_stage_is_found_again(state: StateDir) -> None:
    spool = _spool(state)
    claimed = _claimed(spool)
    started = _started(state, spool)
    finished = _started(state, spool)
    spool.finish(finished, reports.failed("x"))
    entries = {entry.attempt: entry for entry in _spool(state).entries()}
    assert {attempt: entry.stage for attempt, entry in entries.items()} == {
        claimed: CLAIMED,
        started: STARTED,
        finished: FINISHED,
    }
    assert entries[started].boot_id == BOOT
    assert _spool(state).entries()[0].attempt == finished


def test_a_claim_taken_back_is_asked_for_again_under_its_own_id(state: StateDir) -> None:
    spool = _spool(state)
    attempt = _claimed(spool)
    assert not spool.was_started(attempt)
    spool.unclaim(attempt)
    assert spool.next_claim_id == attempt.claim_id
    assert spool.entries() == []


def test_the_report_is_kept_word_for_word_until_acked(state: StateDir) -> None:
    spool = _spool(state)
    attempt = _started(state, spool)
    report = reports.compose("succeeded", 0, stdout="hello", outputs={"a": "1"})
    spool.finish(attempt, report)
    assert _spool(state).find_report(attempt) == report
    spool.ack(attempt)
    assert _spool(state).entries() == []


@pytest.mark.parametrize("stage", [CLAIMED, STARTED])
@pytest.mark.parametrize("damage", ["flipped", "torn", "empty"])
def test_an_attempt_with_a_damaged_record_is_not_executed_again(state: StateDir, stage: str, damage: str) -> None:
    spool = _spool(state)
    attempt = _claimed(spool) if stage == CLAIMED else _started(state, spool)
    _damage(Path(state.spool.path, f"{attempt.name}.{stage}"), damage)
    again = _spool(state)
    (entry,) = again.entries()
    assert (entry.attempt, entry.stage) == (attempt, STARTED)
    assert again.was_started(attempt)
    assert state.spool.child("damaged").names() == [f"{attempt.name}.{stage}"]
    assert again.next_claim_id != attempt.claim_id
    assert _spool(state).was_started(attempt)


@pytest.mark.parametrize("damage", ["flipped", "torn", "empty"])
def test_a_damaged_report_becomes_agent_state_lost(state: StateDir, damage: str) -> None:
    spool = _spool(state)
    attempt = _started(state, spool)
    spool.finish(attempt, reports.compose("succeeded", 0))
    _damage(Path(state.spool.path, f"{attempt.name}.{FINISHED}"), damage)
    again = _spool(state)
    report = again.find_report(attempt)
    assert report is not None
    assert (report["status"], report["reason"]) == ("failed", STATE_LOST)
    assert _spool(state).find_report(attempt) == report


def test_a_damaged_claim_id_is_replaced_by_a_new_one(state: StateDir) -> None:
    first = _spool(state).next_claim_id
    _damage(Path(state.spool.path, "last"), "flipped")
    assert _spool(state).next_claim_id != first


def test_leftovers_of_a_write_and_strange_files_do_not_disturb(state: StateDir) -> None:
    Path(state.spool.path, ".tmp.1.x").write_text("half")
    Path(state.spool.path, "strange").write_text("?")
    assert _spool(state).entries() == []
    assert state.spool.names() == ["damaged", "last", "past"]


def _damage(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes({"flipped": bytes(data), "torn": bytes(data[: len(data) // 2]), "empty": b""}[damage])


@pytest.mark.parametrize("stage", [CLAIMED, STARTED, FINISHED])
def test_f16_g12_whatever_byte_of_a_record_is_altered_or_cut_off_nothing_is_executed_again(
    state: StateDir, stage: str
) -> None:
    """Every byte flipped, every length cut: the attempt is never seen as one that may start, and it has one outcome."""
    spool = _spool(state)
    attempt = _claimed(spool) if stage == CLAIMED else _started(state, spool)
    if stage == FINISHED:
        spool.finish(attempt, reports.compose("succeeded", 0, stdout="said"))
    path = Path(state.spool.path, f"{attempt.name}.{stage}")
    kept = {record.name: record.read_bytes() for record in path.parent.iterdir() if record.is_file()}
    data = kept[path.name]
    cut = [data[:length] for length in range(len(data))]
    flipped = [data[:place] + bytes([data[place] ^ 0x11]) + data[place + 1 :] for place in range(len(data))]
    for damaged in cut + flipped:
        for record in path.parent.iterdir():
            if record.is_file():
                record.unlink()
        for name, content in kept.items():
            Path(path.parent, name).write_bytes(content)
        path.write_bytes(damaged)
        after = _spool(state)
        (entry,) = after.entries()
        assert entry.attempt == attempt
        assert entry.stage != CLAIMED
        assert after.was_started(attempt)
        if stage == FINISHED:
            report = after.find_report(attempt)
            assert report is not None
            assert (report["status"], report["reason"]) == ("failed", STATE_LOST)
        after.close()  # two of each byte would be many open files
