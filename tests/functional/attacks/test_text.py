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
