# SPDX-License-Identifier: Apache-2.0
"""Tasks through the real API: adding, ordering, values between tasks, cancelling."""

from __future__ import annotations

import threading

import pytest

from tests.harness.callers import DEFINITION, Operator, new_id


def test_g1_put_with_the_callers_id_may_be_repeated(operator: Operator) -> None:
    workflow_id, task_id = new_id(), new_id()
    path = f"/v1/workflows/{workflow_id}/tasks/{task_id}"
    body = {"name": "a", "definition": DEFINITION, "server": "s", "workflow": {"id": workflow_id, "name": "w"}}
    first, again = operator.call("PUT", path, json=body), operator.call("PUT", path, json=body)
    other = operator.call("PUT", path, json={**body, "priority": 5})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"] == task_id
    assert operator.call("GET", path).json()["priority"] == 0


def test_g1_tasks_of_one_request_come_all_or_none(operator: Operator) -> None:
    workflow_id = operator.workflow()
    tasks = [{"name": "a", "definition": DEFINITION}, {"name": "b", "definition": DEFINITION, "requires": ["nobody"]}]
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json={"tasks": tasks})
    assert answer.status_code == 422
    assert "nobody" in answer.json()["errors"][0]["detail"]
    assert operator.call("GET", f"/v1/workflows/{workflow_id}/tasks").json()["tasks"] == []


def test_a_cycle_is_refused_and_shown(operator: Operator) -> None:
    tasks = [{"name": name, "definition": DEFINITION, "requires": [other]} for name, other in ("ab", "bc", "ca")]
    answer = operator.call("POST", "/v1/workflows", json={"name": "w", "tasks": tasks})
    assert answer.status_code == 422
    assert "a -> b -> c -> a" in answer.json()["errors"][0]["detail"]


def test_duplicate_names_in_one_request_are_refused_by_name(operator: Operator) -> None:
    tasks = [{"name": "twin", "definition": DEFINITION}] * 2
    answer = operator.call("POST", "/v1/workflows", json={"name": "w", "tasks": tasks})
    assert answer.status_code == 422
    assert "twin" in answer.json()["errors"][0]["detail"]


def test_g9_a_task_becomes_ready_when_its_last_requirement_succeeded(operator: Operator) -> None:
    workflow_id = operator.workflow()
    first, second = (operator.task(workflow_id, name, server="s") for name in ("a", "b"))
    third = operator.task(workflow_id, "c", server="s", requires=["a", "b"])
    agent = operator.agent(server="s")
    assert operator.show(third)["waiting_for"] == "task a (ready), b (ready)"
    taken = agent.take()
    assert taken["id"] == first["id"]
    agent.report(taken)
    assert operator.show(third)["state"] == "waiting"
    taken = agent.take()
    assert taken["id"] == second["id"]
    answer = agent.report(taken, claim={"claim_id": new_id()})
    assert answer.json()["task"]["id"] == third["id"]


def test_values_flow_between_tasks_as_json(operator: Operator) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s")
    operator.task(workflow_id, "b", server="s", input_values={"x": {"get_output": ["a", "y"]}})
    agent = operator.agent(server="s")
    value = {"text": "$(id) {{ 1 + 1 }}", "list": [1, None, True]}
    agent.report(agent.take(), outputs={"y": value})
    assert agent.take()["input_values"] == {"x": value}


def test_a_failed_requirement_skips_what_depends_on_it(operator: Operator) -> None:
    workflow_id = operator.workflow(sealed=False)
    operator.task(workflow_id, "a", server="s")
    second = operator.task(workflow_id, "b", server="s", requires=["a"])
    third = operator.task(workflow_id, "c", server="s", requires=["b"])
    agent = operator.agent(server="s")
    agent.report(agent.take(), "failed", deploy_stderr="warning\nno such host\n")
    assert operator.show(second)["state"] == "skipped"
    assert "requirement b" in operator.show(third)["status_reason"]


def test_a_failed_task_says_its_exit_code_and_last_line(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    agent.report(agent.take(), "failed", deploy_status_code=3, deploy_stderr="warning\nno such host\n")
    shown = operator.show(task)
    assert (shown["state"], shown["status_reason"]) == ("failed", "exit code 3: no such host")


@pytest.mark.parametrize(
    ("reason", "stderr", "stdout", "told"),
    [
        ("exit code 3: the last word", "no such host", "", "exit code 3: the last word"),
        ("the script ended with exit status 3", "warning\nno such host\n", "said\n", "exit code 3: no such host"),
        ("the hook answered with the status code 3", "\n", "said\nlocked\n", "exit code 3: locked"),
        ("puppet apply ended with exit status 3 (killed by signal 42)", "gone\n", "", "exit code 3: gone"),
        ("ansible-playbook ended with exit status 3", "", "", "ansible-playbook ended with exit status 3"),
        (None, "", "locked\n", "exit code 3: locked"),
        (None, "", "", "exit code 3"),
    ],
)
def test_of_an_agent_that_says_no_more_than_the_code_the_last_line_is_told(
    operator: Operator, reason: str | None, stderr: str, stdout: str, told: str
) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    said = {"deploy_status_code": 3, "deploy_stderr": stderr, "deploy_stdout": stdout, "reason": reason}
    agent.report(agent.take(), "failed", **said)
    assert operator.show(task)["status_reason"] == told


def test_a_task_that_nobody_has_to_run_is_recorded_and_succeeds(operator: Operator) -> None:
    task = operator.task(operator.workflow(), definition={"group": "Heat::Ungrouped"})
    assert task["state"] == "succeeded"


def test_a_waiting_show_is_answered_when_the_task_finishes(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(operator.show(task, wait=30)["state"]))
    waiting.start()
    agent.report(taken)
    waiting.join(5)
    assert answers == ["succeeded"]


def test_g8_a_cancelled_ready_task_is_never_claimed(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}"
    assert operator.call("POST", path + "/cancel").json()["state"] == "cancelled"
    assert operator.agent(server="s").claim().status_code == 204


def test_g8_a_running_task_is_cancelled_through_its_agent(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}"
    assert operator.call("POST", path + "/cancel").json()["state"] == "cancelling"
    assert agent.heartbeat(taken).json()["cancel"] is True
    assert agent.report(taken, "cancelled").status_code == 200
    shown = operator.show(task)
    assert (shown["state"], shown["confirmed"]) == ("cancelled", True)


def test_deleting_the_last_task_closes_an_open_workflow(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    path = f"/v1/workflows/{task['workflow_id']}"
    assert operator.call("DELETE", f"{path}/tasks/{task['id']}").status_code == 204
    assert operator.call("DELETE", f"{path}/tasks/{task['id']}").status_code == 204
    assert operator.call("GET", path).json()["state"] == "closed"
    assert operator.show(task)["state"] == "cancelled"


def test_waiting_for_names_the_missing_capability(operator: Operator) -> None:
    task = operator.task(operator.workflow(), capabilities=["ansible"])
    assert operator.show(task)["waiting_for"] == "capability ansible: no agent of this project has it"


def test_waiting_for_says_that_the_agent_never_enrolled(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    operator.register(name="web", server="s")
    assert "never enrolled, its join token expires at" in operator.show(task)["waiting_for"]
