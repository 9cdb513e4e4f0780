# SPDX-License-Identifier: Apache-2.0
"""F32, F33, F34, F35, S63: copies of a guest, disks put back, rotations whose answers are lost (G17)."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from guest_agent.api_client import ApiClient
from guest_agent.config import load_config
from guest_agent.errors import ApiError
from guest_agent.folder import Folder
from guest_agent.identity import Identity
from guest_agent.records import decode, encode
from heat_workflow.store import tables
from tests.faults import counts
from tests.faults.agent.conftest import Cloud
from tests.faults.agent.sabotage import HARDWARE
from tests.harness.callers import Operator
from tests.harness.guests import CounterFile, Guest
from tests.harness.machine import wait_for
from tests.harness.nursery import Nursery
from tests.harness.proxy import ChaosProxy

Task = dict[str, Any]
Add = Callable[..., Task]
Finished = Callable[[Task], Task]
MakeGuest = Callable[..., Guest]


def _copied(guest: Guest, agents: Nursery, directory: Path) -> Guest:
    """A machine made from the disk of another, as it was at one moment: what lives there stands still meanwhile."""
    token = next(line for line in guest.config.read_text().splitlines() if line.startswith("join_token"))
    url = next(line for line in guest.config.read_text().splitlines() if line.startswith("api_url"))
    copy = Guest(agents, directory, url.split(" = ")[1], guest.agent_id, token.split(" = ")[1])
    with guest.standing_still():
        shutil.copytree(guest.state, copy.state, ignore=shutil.ignore_patterns("alive", "control"), symlinks=True)
    return copy


def _make_older(guest: Guest) -> None:
    """The secret in use is old enough to be rotated at the next start."""
    path = guest.state / "credential"
    record = decode(path.read_bytes(), "credential")
    record["secrets"] = [[text, 0.0] for text, _ in record["secrets"]]
    path.write_bytes(encode(record))


def _secrets(guest: Guest) -> int:
    """How many secrets are on the guest's disk."""
    return len(decode((guest.state / "credential").read_bytes(), "credential")["secrets"])


def _state(operator: Operator, guest: Guest) -> str:
    return str(operator.call("GET", f"/v1/agents/{guest.agent_id}").json()["state"])


def _events(operator: Operator, guest: Guest) -> list[str]:
    found = operator.call("GET", f"/v1/agents/{guest.agent_id}/events").json()["events"]
    return [event["type"] for event in found]


def test_f32_g17_a_machine_and_its_copy_never_both_hold_a_task_and_the_operator_is_told(
    guest: Guest,
    agents: Nursery,
    counter: CounterFile,
    add: Add,
    finished: Finished,
    operator: Operator,
    tmp_path: Path,
) -> None:
    guest.start()
    finished(add(counter.script()))
    guest.settle()
    # The journal of a copy lacks what began on the original after it was made: G4 leaves that out, it is per attempt.
    for number in range(counts.F32_COPIES):
        copy = _copied(guest, agents, tmp_path / f"copy-{number}")
        with copy.kept_alive():
            tasks = [add(counter.script("sleep 0.02")) for _ in range(5)]
            assert {finished(task)["state"] for task in tasks} == {"succeeded"}
            wait_for(lambda: "duplicate-agent" in _events(operator, guest))
        copy.end()
    executed = counter.read()
    assert executed.doubled == []
    assert {task_id for task_id, _ in executed.starts} == {task_id for task_id, _ in executed.ends}


def test_s63_f32_a_copy_on_other_hardware_parks_the_credential_and_asks_for_a_join_token(
    guest: Guest, agents: Nursery, add: Add, finished: Finished, operator: Operator, tmp_path: Path
) -> None:
    guest.environment[HARDWARE] = "11111111-2222-3333-4444-555555555555"
    guest.start()
    finished(add("true\n"))
    copy = _copied(guest, agents, tmp_path / "copy")
    copy.environment[HARDWARE] = "99999999-2222-3333-4444-555555555555"
    copy.start()
    assert copy.ended(30)
    said = copy.log.read_text()
    assert "the credential was made on another machine; it is put aside" in said
    assert "ask the operator of the API for a new join token" in said
    assert (copy.state / "credential.parked").exists()
    assert not (copy.state / "credential").exists()
    assert finished(add("true\n"))["state"] == "succeeded"
    assert _state(operator, guest) == "active"
    copy.end()


def test_s63_user_data_read_after_the_boot_opens_nothing(
    guest: Guest, agents: Nursery, add: Add, finished: Finished, operator: Operator, tmp_path: Path
) -> None:
    """Whoever reads it, a local user or the maker of an image, holds a token that was used."""
    guest.start()
    finished(add("true\n"))
    token = next(line for line in guest.config.read_text().splitlines() if line.startswith("join_token"))
    thief = Guest(agents, tmp_path / "thief", operator.url, guest.agent_id, token.split(" = ")[1])
    thief.start()
    wait_for(lambda: thief.log.exists() and " 401 " in thief.log.read_text())
    assert "session begun" not in thief.log.read_text()
    assert "join-token-reused" in _events(operator, guest)
    thief.end()


def test_f33_a_disk_put_back_to_before_a_rotation_locks_the_identity_and_runs_nothing_twice(
    guest: Guest,
    agents: Nursery,
    counter: CounterFile,
    add: Add,
    finished: Finished,
    operator: Operator,
    cloud: Cloud,
    tmp_path: Path,
) -> None:
    guest.start()
    finished(add(counter.script()))
    guest.settle()
    guest.kill()
    snapshot = tmp_path / "snapshot"
    shutil.copytree(guest.state, snapshot)
    _make_older(guest)
    guest.start()
    finished(add(counter.script()))
    wait_for(lambda: "rotated" in _events(operator, guest))
    guest.kill()
    _end_overlap(cloud, guest)
    shutil.rmtree(guest.state)
    snapshot.rename(guest.state)
    guest.start()
    wait_for(lambda: _state(operator, guest) == "suspect")
    assert "old-credential" in _events(operator, guest)
    add(counter.script())
    wait_for(lambda: guest.log.read_text().count(" 401 ") > 1)
    executed = counter.read()
    assert executed.doubled == []
    assert len(executed.starts) == 2


def _end_overlap(cloud: Cloud, guest: Guest) -> None:
    """The minute in which the secret before the last is good is over."""
    engine = sa.create_engine(cloud.store)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=20000")
        c = tables.agent.c
        change = sa.update(tables.agent).where(c.id == guest.agent_id).values(prev_until=c.prev_until - 120)
        connection.execute(change)
    engine.dispose()


def test_f34_a_rotation_whose_answer_is_lost_leaves_an_agent_that_can_always_prove_itself(
    make_guest: MakeGuest, cloud: Cloud, add: Add, finished: Finished, operator: Operator
) -> None:
    with ChaosProxy(cloud.api.port).running() as proxy:
        guest = make_guest(url=proxy.url)
        guest.start()
        for number in range(counts.F34_ROUNDS):
            finished(add("true\n"))
            guest.kill()
            _make_older(guest)
            proxy.cut_at(b"PUT /agent/v1/credential", heard=number % 3 != 0)
            guest.start()
            assert finished(add("true\n"))["state"] == "succeeded"
            if number % 3 == 2:
                guest.kill(signal.SIGKILL)
                guest.start()
        wait_for(lambda: proxy.cuts >= counts.F34_ROUNDS)
        assert _state(operator, guest) == "active"
        assert "old-credential" not in _events(operator, guest)


def test_f35_eight_connections_through_a_promotion_raise_no_alarm(
    guest: Guest, add: Add, finished: Finished, operator: Operator
) -> None:
    """The threads of one agent, each with a connection of its own, while the secret is rotated again and again."""
    guest.start()
    finished(add("true\n"))
    guest.kill()
    config = load_config(str(guest.config))
    identity = Identity(config, Folder(str(guest.state)), "boot")
    first = ApiClient(config.api_url, None, identity.token)
    first.hello({"nonce": identity.nonce, "previous_nonce": identity.previous_nonces[0]})
    refused: list[str] = []
    over = threading.Event()

    def call() -> None:
        client = first.sibling()
        while not over.is_set():
            try:
                client.hello({"nonce": identity.nonce})
            except ApiError as error:
                refused.append(str(error))
        client.close()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(counts.F35_ROTATIONS):
        identity.rotate_now(first)
        first.hello({"nonce": identity.nonce})
    over.set()
    for thread in threads:
        thread.join(30)
    first.close()
    assert [text for text in refused if " 401 " in text] == []
    assert _state(operator, guest) == "active"
    assert _events(operator, guest).count("rotated") == counts.F35_ROTATIONS
