# SPDX-License-Identifier: Apache-2.0
"""Workflows through the real API: sealing, pausing, cancelling, running again, undoing, rolling over servers."""

from __future__ import annotations

from typing import Any

from tests.harness.callers import DEFINITION, Operator, SimulatedAgent, new_id

UNDO = {"group": "script", "config": "#!/bin/sh\nundo\n"}


def state(operator: Operator, workflow_id: str) -> str:
    return str(operator.call("GET", f"/v1/workflows/{workflow_id}").json()["state"])


def sealed(operator: Operator, tasks: list[dict[str, Any]], **fields: Any) -> str:
    body = [{"definition": DEFINITION, "server": "s", **task} for task in tasks]
    return operator.workflow(sealed=True, tasks=body, **fields)


def named(operator: Operator, workflow_id: str) -> dict[str, dict[str, Any]]:
    tasks = operator.call("GET", f"/v1/workflows/{workflow_id}/tasks").json()["tasks"]
    return {task["name"]: task for task in tasks}


def run(agent: SimulatedAgent, count: int, failing: tuple[str, ...] = ()) -> list[str]:
    """Take and report so many tasks; their names in order."""
    names = []
    for _ in range(count):
        task = agent.take()
        agent.report(task, "failed" if task["name"] in failing else "succeeded")
        names.append(task["name"])
    return names


def test_g9_a_sealed_workflow_ends_with_its_last_task(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b", "requires": ["a"]}])
    agent = operator.agent(server="s")
    run(agent, 1)
    assert state(operator, workflow_id) == "active"
    run(agent, 1)
    assert state(operator, workflow_id) == "succeeded"
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json={"name": "c", "definition": DEFINITION})
    assert answer.status_code == 409


def test_g9_a_sealed_workflow_fails_once_all_is_over(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b", "requires": ["a"]}])
    run(operator.agent(server="s"), 1, failing=("a",))
    assert state(operator, workflow_id) == "failed"
    assert named(operator, workflow_id)["b"]["state"] == "skipped"


def test_a_paused_workflow_hands_out_nothing_until_it_is_resumed(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}])
    agent = operator.agent(server="s")
    operator.call("POST", f"/v1/workflows/{workflow_id}/pause")
    assert agent.claim(wait=1).status_code == 204
    assert "it is paused" in named(operator, workflow_id)["a"]["waiting_for"]
    operator.call("POST", f"/v1/workflows/{workflow_id}/resume")
    assert run(agent, 1) == ["a"]


def test_a_cancelled_workflow_waits_for_its_running_task(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b", "requires": ["a"]}])
    agent = operator.agent(server="s")
    taken = agent.take()
    operator.call("POST", f"/v1/workflows/{workflow_id}/cancel")
    assert state(operator, workflow_id) == "cancelling"
    assert agent.heartbeat(taken).json()["cancel"] is True
    agent.report(taken, "cancelled")
    assert state(operator, workflow_id) == "cancelled"
    assert {task["state"] for task in named(operator, workflow_id).values()} == {"cancelled"}


def test_rerun_runs_the_failed_task_and_what_was_skipped_because_of_it(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b"}, {"name": "c", "requires": ["b"]}])
    agent = operator.agent(server="s")
    run(agent, 2, failing=("b",))
    assert state(operator, workflow_id) == "failed"
    assert operator.call("POST", f"/v1/workflows/{workflow_id}/rerun").status_code == 202
    assert run(agent, 2) == ["b", "c"]
    tasks = named(operator, workflow_id)
    assert state(operator, workflow_id) == "succeeded"
    assert [tasks[name]["attempt"] for name in "abc"] == [1, 2, 1]


def test_rerun_of_one_task_takes_its_dependants_along(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b", "requires": ["a"]}])
    agent = operator.agent(server="s")
    run(agent, 1, failing=("a",))
    tasks = named(operator, workflow_id)
    refused = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks/{tasks['b']['id']}/rerun")
    assert refused.status_code == 409
    assert "requires a" in refused.json()["errors"][0]["detail"]
    operator.call("POST", f"/v1/workflows/{workflow_id}/tasks/{tasks['a']['id']}/rerun")
    assert run(agent, 2) == ["a", "b"]


def test_a_task_is_tried_again_after_its_delay(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s", max_attempts=2, retry_delay=0.1)
    agent = operator.agent(server="s")
    agent.report(agent.take(), "failed")
    shown = operator.show(task)
    assert (shown["state"], "attempt 1 failed" in shown["status_reason"]) == ("waiting", True)
    again = agent.take(wait=10)
    assert again["attempt"] == 2
    agent.report(again, "failed")
    assert operator.show(task)["state"] == "failed"
    attempts = operator.call("GET", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/attempts").json()
    assert [attempt["result"] for attempt in attempts["attempts"]] == ["failed", "failed"]


def test_undo_takes_succeeded_tasks_back_in_reverse_order(operator: Operator) -> None:
    tasks: list[dict[str, Any]] = [
        {"name": "a", "undo": UNDO, "input_values": {"size": 3}},
        {"name": "plain", "requires": ["a"]},
        {"name": "b", "undo": UNDO, "requires": ["plain"]},
    ]
    workflow_id = sealed(operator, tasks)
    agent = operator.agent(server="s")
    first = agent.take()
    agent.report(first, outputs={"y": "made"})
    run(agent, 2)
    assert operator.call("POST", f"/v1/workflows/{workflow_id}/undo").status_code == 202
    assert run(agent, 1) == ["undo of b"]
    undo = agent.take()
    assert (undo["name"], undo["action"], undo["definition"]["config"]) == ("undo of a", "UNDO", UNDO["config"])
    assert undo["input_values"] == {"size": 3, "y": "made"}
    agent.report(undo)
    assert state(operator, workflow_id) == "undone"
    assert {name: task["state"] for name, task in named(operator, workflow_id).items()} == {
        "a": "undone",
        "plain": "succeeded",
        "b": "undone",
        "undo of a": "succeeded",
        "undo of b": "succeeded",
    }


def test_an_undo_gets_the_outputs_that_its_task_was_given_and_hidden_ones_stay_hidden(operator: Operator) -> None:
    both = [{"name": "y", "type": "Json"}, {"name": "pw"}]
    given = {"said": {"get_output": ["a", "y"]}, "secret": {"get_output": ["a", "pw"]}}
    tasks: list[dict[str, Any]] = [
        {"name": "a", "definition": {**DEFINITION, "outputs": both}, "hidden_outputs": ["pw"]},
        {"name": "b", "undo": UNDO, "input_values": given},
    ]
    workflow_id = sealed(operator, tasks)
    agent = operator.agent(server="s")
    looks_like_a_reference = {"get_output": ["a", "pw"]}
    agent.report(agent.take(), outputs={"y": looks_like_a_reference, "pw": "s3cret"})
    run(agent, 1)
    operator.call("POST", f"/v1/workflows/{workflow_id}/undo")
    undo = agent.take()
    assert undo["input_values"] == {"said": looks_like_a_reference, "secret": "s3cret"}
    shown = named(operator, workflow_id)["undo of b"]
    assert (shown["input_values"]["secret"], shown["hidden_inputs"]) == ("******", ["secret"])


def test_a_failed_undo_is_reported_and_the_others_go_on(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a", "undo": UNDO}, {"name": "b", "undo": UNDO, "requires": ["a"]}])
    agent = operator.agent(server="s")
    run(agent, 2)
    operator.call("POST", f"/v1/workflows/{workflow_id}/undo")
    assert run(agent, 2, failing=("undo of b",)) == ["undo of b", "undo of a"]
    assert state(operator, workflow_id) == "failed"
    assert named(operator, workflow_id)["a"]["state"] == "undone"


def test_on_failure_undo_starts_by_itself(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a", "undo": UNDO}, {"name": "b", "requires": ["a"]}], on_failure="undo")
    agent = operator.agent(server="s")
    run(agent, 2, failing=("b",))
    assert state(operator, workflow_id) == "undoing"
    assert run(agent, 1) == ["undo of a"]
    assert state(operator, workflow_id) == "undone"


def test_an_undo_may_be_asked_for_twice(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s", undo=UNDO)
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/undo"
    assert operator.call("POST", path).status_code == 409
    agent = operator.agent(server="s")
    run(agent, 1)
    first, again = operator.call("POST", path), operator.call("POST", path)
    assert first.json()["id"] == again.json()["id"]
    assert run(agent, 1) == ["undo of t"]
    assert operator.show(task)["state"] == "undone"


def fan_out(operator: Operator, count: int, **batch: Any) -> tuple[str, list[SimulatedAgent]]:
    """A fan-out over so many servers with an agent each."""
    servers = {f"n{number}": new_id() for number in range(count)}
    agents = [operator.agent(server=server) for server in servers.values()]
    workflow_id = operator.workflow()
    body = {"name": "web", "definition": DEFINITION, "servers": servers, "batch": batch or None}
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json=body)
    assert [task["name"] for task in answer.json()["tasks"]] == [f"web/{name}" for name in servers]
    return workflow_id, agents


def test_a_fan_out_runs_everywhere_and_its_outputs_are_a_map(operator: Operator) -> None:
    workflow_id, agents = fan_out(operator, 3)
    operator.task(workflow_id, "after", server="s", input_values={"all": {"get_output": ["web", "y"]}})
    for number, agent in enumerate(agents):
        agent.report(agent.take(), outputs={"y": number})
    last = operator.agent(server="s").take()
    assert last["input_values"] == {"all": {"n0": 0, "n1": 1, "n2": 2}}


def test_batches_roll_over_the_servers_in_turn(operator: Operator) -> None:
    workflow_id, agents = fan_out(operator, 4, max_size=2)
    assert [agent.claim().status_code for agent in agents[2:]] == [204, 204]
    assert named(operator, workflow_id)["web/n2"]["waiting_for"] == "the turn of batch 2 of web"
    run(agents[0], 1)
    run(agents[1], 1)
    assert run(agents[2], 1) == ["web/n2"]
    assert run(agents[3], 1) == ["web/n3"]


def test_no_new_batch_starts_above_max_errors(operator: Operator) -> None:
    workflow_id, agents = fan_out(operator, 4, max_size=1, max_errors=1)
    run(agents[0], 1, failing=("web/n0",))
    run(agents[1], 1, failing=("web/n1",))
    states = {name: task["state"] for name, task in named(operator, workflow_id).items()}
    assert states == {"web/n0": "failed", "web/n1": "failed", "web/n2": "skipped", "web/n3": "skipped"}
    assert "more than max_errors 1" in named(operator, workflow_id)["web/n3"]["status_reason"]


def test_a_concurrency_key_lets_one_task_run_at_a_time(operator: Operator) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s1", concurrency_key="db")
    second = operator.task(workflow_id, "b", server="s2", concurrency_key="db")
    one, two = operator.agent(server="s1"), operator.agent(server="s2")
    taken = one.take()
    assert two.claim().status_code == 204
    assert f"the lock db: task {taken['id']}" in operator.show(second)["waiting_for"]
    one.report(taken)
    assert run(two, 1) == ["b"]


def test_the_more_urgent_task_is_handed_out_first(operator: Operator) -> None:
    workflow_id = operator.workflow()
    for name, priority in (("low", -1), ("normal", 0), ("high", 5)):
        operator.task(workflow_id, name, server="s", priority=priority)
    assert run(operator.agent(server="s"), 3) == ["high", "normal", "low"]


def test_what_nobody_has_claimed_may_be_changed(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s", input_values={"x": 1})
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}"
    assert operator.call("PATCH", path, json={"input_values": {"x": 2}, "priority": 7}).status_code == 200
    taken = operator.agent(server="s").take()
    assert taken["input_values"] == {"x": 2}
    assert operator.call("PATCH", path, json={"priority": 1}).status_code == 409


def test_g27_hidden_values_are_masked_and_reach_only_the_lease_holder(operator: Operator) -> None:
    workflow_id = operator.workflow()
    task = operator.task(
        workflow_id,
        "a",
        server="s",
        input_values={"pw": "canary-in", "n": 1},
        hidden_inputs=["pw"],
        hidden_outputs=["y"],
    )
    operator.task(workflow_id, "b", server="s", input_values={"x": {"get_output": ["a", "y"]}}, hidden_inputs=["x"])
    agent = operator.agent(server="s")
    taken = agent.take()
    assert taken["input_values"] == {"pw": "canary-in", "n": 1}
    assert operator.show(task)["input_values"] == {"pw": "******", "n": 1}
    agent.report(taken, outputs={"y": "canary-out"})
    assert agent.report(taken, outputs={"y": "canary-out"}).status_code == 200
    assert operator.show(task)["outputs"] == {"y": "******"}
    path = f"/v1/workflows/{workflow_id}/tasks/{task['id']}"
    assert operator.call("GET", path, params={"reveal": "true"}).json()["outputs"] == {"y": "canary-out"}
    assert agent.take()["input_values"] == {"x": "canary-out"}


def test_the_inputs_that_are_to_be_exported_are_told_to_the_agent_and_to_the_undo(operator: Operator) -> None:
    fields: dict[str, Any] = {
        "definition": {"group": "script", "config": "", "outputs": [{"name": "token"}]},
        "input_values": {"pw": "canary"},
        "hidden_inputs": ["pw"],
        "hidden_outputs": ["token"],
        "environment_inputs": ["token", "pw"],
        "undo": {"group": "script", "config": ""},
    }
    task = operator.task(operator.workflow(), server="s", **fields)
    plain = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    first, second = agent.take(), agent.take()
    assert (first["environment_inputs"], second["environment_inputs"]) == (["token", "pw"], [])
    assert operator.show(task)["environment_inputs"] == ["token", "pw"]
    assert operator.show(plain)["environment_inputs"] == []
    agent.report(first, outputs={"token": "t"})
    operator.call("POST", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/undo")
    undo = agent.take()
    assert undo["environment_inputs"] == ["token", "pw"]
    assert undo["input_values"] == {"token": "t", "pw": None}, "a hidden input is erased when its task ends"


def test_the_log_is_read_as_it_is_written(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    lease = {"attempt": taken["attempt"], "claim_id": taken["claim_id"]}
    path = f"/tasks/{taken['id']}/log"
    chunks = [{"n": 0, "stream": "stdout", "text": "one\n"}, {"n": 1, "stream": "stderr", "text": "two\n"}]
    assert agent.call("POST", path, json={**lease, "chunks": chunks}).json() == {"next": 2}
    assert agent.call("POST", path, json={**lease, "chunks": chunks}).json() == {"next": 2}
    agent.report(taken)
    shown = operator.call("GET", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/log")
    assert [chunk["text"] for chunk in shown.json()["chunks"]] == ["one\n", "two\n"]
    followed = operator.call(
        "GET", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/log", params={"follow": "true"}
    )
    assert followed.text == "one\ntwo\n"


def test_events_are_numbered_without_gaps(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b", "requires": ["a"]}])
    run(operator.agent(server="s"), 2)
    events = operator.call("GET", f"/v1/workflows/{workflow_id}/events").json()["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "workflow-succeeded"
    later = operator.call("GET", f"/v1/workflows/{workflow_id}/events", params={"after": 3}).json()["events"]
    assert later == events[3:]
