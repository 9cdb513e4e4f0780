# SPDX-License-Identifier: Apache-2.0
"""Many tasks at once through the real API: fan-outs waited for and added to, one word on many, sealed ones amended."""

from __future__ import annotations

from typing import Any

from tests.functional.test_workflows import UNDO, named, run, sealed, state
from tests.harness.callers import DEFINITION, Operator, new_id


def add(operator: Operator, workflow_id: str, tasks: list[dict[str, Any]], status: int = 201, **fields: Any) -> Any:
    body = {"tasks": [{"definition": DEFINITION, **task} for task in tasks], **fields}
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def act(operator: Operator, workflow_id: str, word: str, *tasks: dict[str, Any], status: int = 202) -> Any:
    body = {"action": word, "ids": [task["id"] for task in tasks]}
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks/actions", json=body)
    assert answer.status_code == status, answer.text
    return answer.json().get("tasks")


def members(operator: Operator, workflow_id: str, **query: Any) -> list[dict[str, Any]]:
    answer = operator.call("GET", f"/v1/workflows/{workflow_id}/tasks", params={"fanout": "web", **query})
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()["tasks"]
    return listed


def test_each_member_of_a_fan_out_is_told_its_own_server(operator: Operator) -> None:
    workflow_id = operator.workflow()
    values = {"where": {"get_server": "id"}, "who": {"get_server": "name"}, "plain": {"a": 1}}
    add(operator, workflow_id, [{"name": "web", "servers": {"n1": "s1", "n2": "s2"}, "input_values": values}])
    for name, server in (("n1", "s1"), ("n2", "s2")):
        assert operator.agent(server=server).take()["input_values"] == {"where": server, "who": name, "plain": {"a": 1}}


def test_get_server_takes_two_words_only(operator: Operator) -> None:
    wrong = [{"name": "web", "servers": {"n1": "s1"}, "input_values": {"x": {"get_server": "colour"}}}]
    refused = add(operator, operator.workflow(), wrong, status=422)
    assert "get_server takes id or name" in refused["errors"][0]["detail"]


def test_a_fan_out_is_waited_for_as_one(operator: Operator) -> None:
    workflow_id = operator.workflow()
    add(operator, workflow_id, [{"name": "web", "servers": {"n1": "s1", "n2": "s2"}}, {"name": "other", "server": "x"}])
    agents = [operator.agent(server="s1"), operator.agent(server="s2")]
    run(agents[0], 1)
    assert [task["state"] for task in members(operator, workflow_id, wait=0.2)] == ["succeeded", "ready"]
    run(agents[1], 1)
    assert [task["state"] for task in members(operator, workflow_id, wait=30)] == ["succeeded", "succeeded"]
    assert [task["name"] for task in members(operator, workflow_id, limit=1)] == ["web/n1"]


def test_only_a_fan_out_can_be_waited_for_in_a_list(operator: Operator) -> None:
    answer = operator.call("GET", f"/v1/workflows/{operator.workflow()}/tasks", params={"wait": 1})
    assert answer.status_code == 422


def test_what_follows_a_fan_out_sees_old_and_new_members(operator: Operator) -> None:
    workflow_id = operator.workflow()
    add(operator, workflow_id, [{"name": "web", "servers": {"n1": "s1", "n2": "s2", "n3": "s3"}}])
    for server in ("s1", "s2", "s3"):
        agent = operator.agent(server=server)
        agent.report(agent.take(), outputs={"y": f"old {server}"})
    act(operator, workflow_id, "remove", members(operator, workflow_id)[2])
    after = {"name": "after", "server": "s", "input_values": {"all": {"get_output": ["web", "y"]}}}
    add(operator, workflow_id, [{"name": "web", "servers": {"n2": "s2b"}}, after])
    agent = operator.agent(server="s2b")
    agent.report(agent.take(), outputs={"y": "new"})
    assert operator.agent(server="s").take()["input_values"] == {"all": {"n1": "old s1", "n2": "new"}}
    listed = [(task["name"], task["server"]) for task in members(operator, workflow_id)]
    assert listed == [("web/n1", "s1"), ("web/n2", "s2"), ("web/n2", "s2b")], "both runs have their owner still"


def test_a_removed_member_counts_no_more_as_a_failure(operator: Operator) -> None:
    workflow_id = operator.workflow()
    rolling = {"name": "web", "batch": {"max_errors": 0}}
    add(operator, workflow_id, [{**rolling, "servers": {"n1": "s1"}}])
    run(operator.agent(server="s1"), 1, failing=("web/n1",))
    act(operator, workflow_id, "remove", *members(operator, workflow_id))
    add(operator, workflow_id, [{**rolling, "servers": {"n2": "s2", "n3": "s3"}}])
    run(operator.agent(server="s2"), 1)
    run(operator.agent(server="s3"), 1)


def test_one_word_cancels_detaches_and_is_refused_as_a_whole(operator: Operator) -> None:
    workflow_id = operator.workflow()
    first, second = add(operator, workflow_id, [{"name": "a", "server": "s"}, {"name": "b", "requires": ["a"]}])[
        "tasks"
    ]
    act(operator, workflow_id, "cancel", first, {"id": new_id()}, status=404)
    assert operator.show(first)["state"] == "ready"
    assert [task["state"] for task in act(operator, workflow_id, "cancel", first, second)] == ["cancelled"] * 2
    assert state(operator, workflow_id) == "active"
    assert [task["detached"] for task in act(operator, workflow_id, "detach", first, second)] == [True, True]
    assert state(operator, workflow_id) == "closed"


def test_many_are_undone_in_reverse_order_and_once(operator: Operator) -> None:
    workflow_id = operator.workflow()
    tasks: list[dict[str, Any]] = [
        {"name": name, "server": "s", "undo": UNDO, "requires": [*"ab"[: "abc".index(name)]]} for name in "abc"
    ]
    a, b, c = add(operator, workflow_id, tasks)["tasks"]
    agent = operator.agent(server="s")
    act(operator, workflow_id, "undo", a, status=409)
    run(agent, 3)
    undos = act(operator, workflow_id, "undo", a, c)
    assert [undo["undo_of"] for undo in undos] == [a["id"], c["id"]]
    assert [undo["id"] for undo in act(operator, workflow_id, "undo", a, c)] == [undo["id"] for undo in undos]
    assert run(agent, 2) == ["undo of c", "undo of a"]
    assert [operator.show(task)["state"] for task in (a, b, c)] == ["undone", "succeeded", "undone"]


def test_a_sealed_workflow_is_amended_by_its_owner_alone(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b", "requires": ["a"]}])
    agent = operator.agent(server="s")
    run(agent, 2)
    again = [{"name": "b", "server": "s", "requires": ["a"]}]
    add(operator, workflow_id, again, status=409)
    add(operator, workflow_id, again, amend=True)
    assert state(operator, workflow_id) == "active"
    assert run(agent, 1) == ["b"]
    assert state(operator, workflow_id) == "succeeded"


def test_a_failed_amendment_is_undone_and_not_what_it_found(operator: Operator) -> None:
    first: list[dict[str, Any]] = [{"name": "a", "undo": UNDO}, {"name": "b", "undo": UNDO}]
    workflow_id = sealed(operator, first, on_failure="undo")
    agent = operator.agent(server="s")
    run(agent, 2)
    amendment: list[dict[str, Any]] = [
        {"name": "b", "server": "s", "undo": UNDO},
        {"name": "c", "server": "s", "undo": UNDO, "requires": ["b"]},
        {"name": "d", "server": "s", "requires": ["c"]},
    ]
    add(operator, workflow_id, amendment, amend=True)
    run(agent, 3, failing=("d",))
    assert run(agent, 2) == ["undo of c", "undo of b"]
    assert state(operator, workflow_id) == "undone"
    assert named(operator, workflow_id)["a"]["state"] == "succeeded"


def test_a_failure_that_an_amendment_made_good_does_not_count(operator: Operator) -> None:
    workflow_id = sealed(operator, [{"name": "a"}, {"name": "b"}])
    agent = operator.agent(server="s")
    run(agent, 2, failing=("b",))
    assert state(operator, workflow_id) == "failed"
    add(operator, workflow_id, [{"name": "b", "server": "s"}], amend=True)
    run(agent, 1)
    assert state(operator, workflow_id) == "succeeded"


def test_a_tolerated_failure_does_not_fail_the_workflow(operator: Operator) -> None:
    for most, outcome in ((1, "succeeded"), (0, "failed")):
        servers = {"n1": new_id(), "n2": new_id()}
        fan = {
            "name": "web",
            "definition": DEFINITION,
            "servers": servers,
            "batch": {"max_size": 2, "max_errors": most},
        }
        workflow_id = operator.workflow(sealed=True, tasks=[fan])
        for server in servers.values():
            run(operator.agent(server=server), 1, failing=("web/n1",))
        assert state(operator, workflow_id) == outcome
