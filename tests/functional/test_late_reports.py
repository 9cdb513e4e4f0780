# SPDX-License-Identifier: Apache-2.0
"""Late reports (G6): what came too late changes nothing, and an operator can see that it came."""

from __future__ import annotations

from typing import Any

from tests.harness.callers import Operator


def attempts(operator: Operator, task: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/attempts"
    shown: dict[str, Any] = operator.call("GET", path).json()
    return shown


def test_g6_a_refused_report_is_shown_beside_the_attempts(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    assert agent.report(taken, outputs={"y": "first"}).status_code == 200
    assert attempts(operator, task)["late_reports"] == []
    assert agent.report(taken, "failed", deploy_stderr="it broke\n", outputs={"y": "canary"}).status_code == 409
    shown = attempts(operator, task)
    [late] = shown["late_reports"]
    assert (late["agent_id"], late["attempt"], late["claim_id"]) == (agent.agent_id, 1, taken["claim_id"])
    assert (late["status"], late["deploy_status_code"], late["reason"]) == ("failed", 1, "exit code 1: it broke")
    assert late["outputs"] == ["y"]
    assert "canary" not in str(late)
    assert [(one["result"], one["outputs"]) for one in shown["attempts"]] == [("succeeded", {"y": "first"})]
    events = operator.call("GET", f"/v1/agents/{agent.agent_id}/events").json()["events"]
    assert [event["body"]["task_id"] for event in events if event["type"] == "refused"] == [task["id"]]


def test_g6_a_report_that_came_with_a_claim_is_kept_too(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    agent.report(taken)
    listed = {"task_id": task["id"], "attempt": 1, "claim_id": taken["claim_id"], "status": "failed"}
    assert [one["status"] for one in agent.claim(reports=[listed]).json()["reports"]] == [409]
    assert [one["status"] for one in attempts(operator, task)["late_reports"]] == ["failed"]


def test_g6_of_many_late_reports_few_are_kept(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    agent.report(taken)
    refused = [agent.report(taken, outputs={"y": str(n)}).status_code for n in range(60)]
    assert set(refused) == {409}
    assert len(attempts(operator, task)["late_reports"]) == 10
