# SPDX-License-Identifier: Apache-2.0
"""F45: the agent of this release with the API of the one before and of the one after (G21)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.machine import Machine, wait_for
from tests.harness.small_api import Api, Call, Wire, wire_task

AGENT = str(uuid.uuid4())
JOIN = f"hwj1.{AGENT.replace('-', '')}.{'j' * 43}"
UNKNOWN: dict[str, Any] = {"since_v9": {"deep": [1, None]}, "another": "word"}


@pytest.fixture
def guest(tmp_path: Path, fake: Api) -> Iterator[Machine]:
    made = Machine(tmp_path, fake.url, AGENT, JOIN)
    yield made
    made.end()


def _newer(fake: Api) -> None:
    """Every answer holds fields that this agent has never heard of."""
    plain = fake.answer

    def answer(call: Call) -> tuple[int, Wire | None]:
        status, body = plain(call)
        if body is None:
            return status, None
        task = body.get("task")
        more = {"task": {**task, **UNKNOWN, "definition": {**task["definition"], **UNKNOWN}}} if task else {}
        return status, {**body, **UNKNOWN, **more}

    fake.answer = answer  # type: ignore[method-assign]


def _older(fake: Api) -> None:
    """Answers hold nothing but what the first release had."""
    fake.answers["hello"] = lambda _call: (200, {})
    fake.answers["heartbeat"] = lambda _call: (200, {})


@pytest.mark.parametrize("api", [_newer, _older])
def test_f45_g21_an_api_with_more_or_fewer_fields_is_understood(guest: Machine, fake: Api, api: Any) -> None:
    api(fake)
    guest.start()
    wire = wire_task("printf ok > ${heat_outputs_path}.y; sleep 3\n", outputs=[{"name": "y", **UNKNOWN}])
    if api is _older:
        for name in ("hidden_inputs", "hidden_outputs", "timeout", "deadline_in", "lease", "server", "workflow_id"):
            del wire[name]
    report = fake.report_of(fake.add(wire))
    assert (report["status"], report["outputs"]) == ("succeeded", {"y": "ok"})
    assert "heartbeat" in fake.names()
    assert "Traceback" not in guest.log.read_text()


def test_f45_a_hello_refused_for_its_new_fields_is_told_and_tried_again(guest: Machine, fake: Api) -> None:
    """An API that is older than what the agent says: nothing is lost, the operator reads why."""
    problem = {"errors": [{"code": "invalid", "detail": "unknown field: inventory"}]}
    fake.answers["hello"] = lambda _call: (422, problem)
    guest.start()
    wait_for(lambda: fake.names().count("hello") > 1)
    assert "unknown field: inventory" in guest.log.read_text()
    del fake.answers["hello"]
    assert fake.report_of(fake.add(wire_task("true\n")))["status"] == "succeeded"


def test_f45_the_journal_of_an_agent_of_another_release_is_understood(guest: Machine, fake: Api) -> None:
    """Records with fields that came later, or without those that came since, are read for what they say."""
    from guest_agent.records import decode, encode

    task = fake.add(wire_task(f"while [ ! -e {guest.directory}/go ]; do sleep 0.02; done\n"))
    guest.start()
    wait_for(lambda: list((guest.state / "spool").glob("*.started")))
    guest.kill()
    for path in [*(guest.state / "spool").glob("*.started"), guest.state / "credential", guest.state / "nonce"]:
        record = {**decode(path.read_bytes(), path.name), **UNKNOWN}
        record.pop("hw_uuid", None)
        path.write_bytes(encode(record))
    guest.start()
    wait_for(lambda: fake.names().count("hello") == 2)
    (guest.directory / "go").touch()
    assert fake.report_of(task)["status"] == "succeeded"
    assert fake.names().count("enroll") == 1
