# SPDX-License-Identifier: Apache-2.0
"""Text: what looks like a program, a log line or a time is text, and nothing of it is evaluated or believed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functional.attacks.world import World
from tests.harness.callers import DEFINITION, Operator, new_id
from tests.harness.servers import ApiProcess
from tests.harness.waiters import until

PROGRAMS = [
    "$(touch /tmp/canary)",
    "`id`",
    "a\n'b\"c",
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "<% $.x %>",
    "!!python/object/apply:os.system ['id']",
    "${x}%(x)s{x}",
    {"get_attr": ["db", "url"]},
    {"Fn::GetAtt": ["db", "url"]},
    [{"get_param": "x"}],
]


@pytest.mark.parametrize("text", PROGRAMS)
def test_r5_s38_s39_values_arrive_as_they_were_sent_also_from_task_to_task(operator: Operator, text: object) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s", input_values={"x": text})
    operator.task(workflow_id, "b", server="s", input_values={"x": {"get_output": ["a", "y"]}})
    agent = operator.agent(server="s")
    first = agent.take()
    assert first["input_values"] == {"x": text}
    agent.report(first, outputs={"y": text})
    assert agent.take()["input_values"] == {"x": text}


HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\u202e\x9b31m"


def test_s40_what_a_hook_wrote_is_data_to_browsers_and_in_a_terminal(operator: Operator) -> None:
    workflow_id = operator.workflow()
    task = operator.task(workflow_id, server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    lines = [{"n": 0, "stream": "stdout", "text": HOSTILE}]
    log = {"attempt": taken["attempt"], "claim_id": taken["claim_id"], "chunks": lines}
    assert agent.call("POST", f"/tasks/{task['id']}/log", json=log).status_code == 200
    said = {"deploy_stderr": f"first\n{HOSTILE}\n", "deploy_stdout": HOSTILE, "outputs": {"y": HOSTILE}}
    assert agent.report(taken, "failed", **said).status_code == 200
    place = f"/v1/workflows/{workflow_id}"
    paths = ["/tasks", f"/tasks/{task['id']}", f"/tasks/{task['id']}/attempts", "/events", "/graph"]
    for path in [*paths, f"/tasks/{task['id']}/log", "/graph?format=dot", "/tasks/" + HOSTILE]:
        answer = operator.call("GET", place + path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert "html" not in answer.headers["Content-Type"], path
        assert path not in paths or answer.headers["Content-Type"] == "application/json"
        if path in paths:
            assert "\x1b" not in answer.text, path  # JSON escapes it
    after = operator.show(task)
    assert after["deploy_stdout"] == HOSTILE  # what was written is kept as it is (G7)
    assert after["status_reason"].startswith("exit code 1: \\x1b[2J\\x1b]0;owned\\x07<script>")
    assert after["status_reason"].isprintable()  # Heat shows it in event lists, in people's terminals


def test_s41_no_text_of_a_caller_begins_a_line_of_the_log(api: ApiProcess, world: World) -> None:
    forged = "\nFORGED 2026-01-01 INFO nothing happened"
    before = len(api.log.read_text())
    owner, agent = world.owner, world.agent
    definition = {**DEFINITION, "config": forged}
    owner.task(world.workflow_id, "t2", server="s2", definition=definition, input_values={"x": forged})
    owner.call("GET", "/v1/workflows", params={"name": forged})
    owner.call("GET", f"/v1/workflows/{forged}")
    theirs = {"X-Openstack-Request-Id": f"req-{new_id()}", "User-Agent": "x%0aFORGED"}
    owner.call("GET", "/v1/workflows/%0aFORGED%1b[31m%c2%85FORGED%e2%80%a8FORGED", headers=theirs)
    owner.call("GET", "/v1/workflows", headers={"X-Openstack-Request-Id": "req-%0aFORGED"})
    agent.hello(version="1\nFORGED", inventory={"os": forged})
    agent.report(world.taken, "failed", reason=forged, deploy_stderr=forged, outputs={"y": forged})
    agent.report(world.taken, "succeeded", reason=forged * 20, outputs={"y": forged})
    assert owner.call("GET", "/healthz").status_code == 200
    until(lambda: len(api.log.read_text()) > before)
    written = api.log.read_text()[before:]
    lines = written.splitlines()
    assert not [line for line in lines if line.startswith("FORGED")]
    assert max(len(line) for line in lines) < 10_000
    assert "\x1b" not in written


def test_g16_what_a_guest_takes_for_the_time_is_not_heard(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    agent.session.headers["Date"] = "Thu, 01 Jan 1970 00:00:00 GMT"
    taken = agent.take()
    agent.session.headers["Date"] = "Fri, 31 Dec 2099 23:59:59 GMT"
    assert agent.heartbeat(taken).status_code == 200
    for field in ("now", "time", "finished_at", "started_at", "clock"):
        later: dict[str, Any] = {field: 4_000_000_000}
        assert agent.report(taken, **later).status_code == 422
    assert agent.report(taken).status_code == 200
    shown = operator.show(task)
    assert shown["created_at"] < shown["started_at"] < shown["finished_at"] < "2099"
