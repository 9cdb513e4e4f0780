# SPDX-License-Identifier: Apache-2.0
"""G9, I5, I8: what the end of a task brings about, in the graphs where that is easily got wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.callers import DEFINITION
from tests.harness.history import History
from tests.harness.invariants import check
from tests.harness.nursery import Nursery
from tests.harness.recorded import RecordedAgent, RecordedOperator
from tests.harness.replicas import replicas

UNDO = {**DEFINITION, "config": "undo"}
pytestmark = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)


@pytest.fixture
def operator(nursery: Nursery, tmp_path: Path, url: str, project: str, history: History) -> Iterator[RecordedOperator]:
    """At its end everything it did is judged."""
    with replicas(nursery, tmp_path, url, 1) as [api]:
        yield RecordedOperator(history, [api.url], project)
    check(history, url, project)


@pytest.fixture
def agent(operator: RecordedOperator) -> RecordedAgent:
    return operator.agent(server="s")


def on_s(*tasks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"server": "s", **task} for task in tasks]


def run(agent: RecordedAgent, *failing: str, most: int = 100) -> list[str]:
    """Take and report what there is; the names in order."""
    names: list[str] = []
    while len(names) < most:
        answer = agent.claim()
        if answer.status_code != 200:
            break
        task = answer.json()["task"]
        agent.start(task)
        assert agent.report(task, "failed" if task["name"] in failing else "succeeded").status_code == 200
        names.append(task["name"])
    return names


def tasks_of(operator: RecordedOperator, workflow_id: str) -> dict[str, dict[str, Any]]:
    found = operator.call("GET", f"/v1/workflows/{workflow_id}/tasks", params={"limit": 1000}).json()["tasks"]
    return {task["name"]: task for task in found}


def states(operator: RecordedOperator, workflow_id: str) -> dict[str, str]:
    return {name: task["state"] for name, task in tasks_of(operator, workflow_id).items()}


def state(operator: RecordedOperator, workflow_id: str) -> str:
    return str(operator.call("GET", f"/v1/workflows/{workflow_id}").json()["state"])


def do(operator: RecordedOperator, workflow_id: str, word: str, task: str = "") -> None:
    path = f"/v1/workflows/{workflow_id}"
    if task:
        path += f"/tasks/{tasks_of(operator, workflow_id)[task]['id']}"
    answer = operator.call("POST", f"{path}/{word}")
    assert answer.status_code == 202, answer.text


def test_g9_a_failed_workflow_without_anything_to_undo_ends_as_failed(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    tasks = on_s({"name": "a"}, {"name": "b", "requires": ["a"]})
    workflow_id = operator.workflow(sealed=True, on_failure="undo", tasks=tasks)
    run(agent, "a")
    assert state(operator, workflow_id) == "failed"


def test_a_task_that_hangs_on_the_failed_one_in_two_ways_is_skipped_once(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    tasks = on_s({"name": "a"}, {"name": "b", "requires": ["a"]}, {"name": "c", "requires": ["b", "a"]})
    workflow_id = operator.workflow(sealed=True, tasks=tasks)
    assert run(agent, "a") == ["a"]
    assert states(operator, workflow_id) == {"a": "failed", "b": "skipped", "c": "skipped"}
    do(operator, workflow_id, "rerun", "a")
    assert run(agent) == ["a", "b", "c"]
    assert state(operator, workflow_id) == "succeeded"


def test_tasks_added_to_a_failed_one_are_skipped_together(operator: RecordedOperator, agent: RecordedAgent) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s")
    run(agent, "a")
    bodies = [operator.body(**task) for task in on_s({"name": "b", "requires": ["a"]})]
    bodies.append(operator.body("c", requires=["b", "a"]))
    bodies.append(operator.body("recorded", definition={"group": "Heat::Ungrouped"}))
    bodies.append(operator.body("d", requires=["recorded"], server="s"))
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json={"tasks": bodies})
    assert answer.status_code == 201, answer.text
    assert run(agent) == ["d"]
    shown = states(operator, workflow_id)
    assert (shown["b"], shown["c"], shown["d"]) == ("skipped", "skipped", "succeeded")


def test_a_chain_of_a_thousand_tasks_is_skipped_and_run_again(operator: RecordedOperator, agent: RecordedAgent) -> None:
    tasks = on_s(*({"name": f"t{n}", "requires": [f"t{n - 1}"] if n else []} for n in range(1000)))
    workflow_id = operator.workflow(sealed=True, tasks=tasks)
    run(agent, "t0", most=1)
    assert state(operator, workflow_id) == "failed"
    do(operator, workflow_id, "rerun", "t0")
    assert run(agent, most=2) == ["t0", "t1"]
    do(operator, workflow_id, "cancel")
    assert state(operator, workflow_id) == "cancelled"


def test_a_rolling_fanout_over_a_thousand_servers_ends_at_its_first_failure(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    servers = {f"n{n}": "s" for n in range(1000)}
    workflow_id = operator.workflow(sealed=True, tasks=[{"name": "fan", "servers": servers, "batch": {"max_size": 1}}])
    assert run(agent, "fan/n0") == ["fan/n0"]
    assert state(operator, workflow_id) == "failed"


def test_a_batch_whose_members_were_cancelled_passes_its_turn_on(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    servers = dict.fromkeys(["n0", "n1", "n2", "n3"], "s")
    workflow_id = operator.workflow(tasks=[{"name": "fan", "servers": servers, "batch": {"max_size": 1}}])
    for name in ("fan/n1", "fan/n2"):
        do(operator, workflow_id, "cancel", name)
    assert run(agent) == ["fan/n0", "fan/n3"]


def test_i5_what_runs_again_is_not_counted_twice(operator: RecordedOperator, agent: RecordedAgent) -> None:
    """One failure is within the fan-out's tolerance; its second run does not stand for the member that is missing."""
    servers = dict.fromkeys(["n0", "n1"], "s")
    rolling = {"max_size": 2, "max_errors": 1}
    tasks = [{"name": "fan", "servers": servers, "batch": rolling}, *on_s({"name": "end", "requires": ["fan"]})]
    workflow_id = operator.workflow(tasks=tasks)
    assert run(agent, "fan/n0", most=1) == ["fan/n0"]
    late = agent.take()
    agent.start(late)
    do(operator, workflow_id, "rerun", "fan/n0")
    assert run(agent) == ["fan/n0"]
    assert states(operator, workflow_id)["end"] == "waiting"
    assert agent.report(late).status_code == 200
    assert run(agent) == ["end"]


def test_i5_a_batch_that_has_its_turn_still_waits_for_what_it_requires(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    servers = dict.fromkeys(["n0", "n1"], "s")
    fan = {"name": "fan", "servers": servers, "batch": {"max_size": 1}, "requires": ["a"]}
    workflow_id = operator.workflow(tasks=[*on_s({"name": "a"}), fan])
    running = agent.take()
    agent.start(running)
    for word in ("cancel", "rerun", "cancel"):
        do(operator, workflow_id, word, "fan/n0")
    assert states(operator, workflow_id)["fan/n1"] == "waiting"
    assert agent.report(running).status_code == 200
    assert run(agent) == ["fan/n1"]


def test_i8_a_workflow_run_again_leaves_out_what_cannot_run(operator: RecordedOperator, agent: RecordedAgent) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s")
    operator.task(workflow_id, "b", server="s", requires=["a"])
    operator.task(workflow_id, "c", server="s")
    run(agent, "a", "c")
    operator.task(workflow_id, "a", server="s")  # takes the name from the one that b requires
    run(agent)
    do(operator, workflow_id, "rerun")
    assert run(agent) == ["c"]
    assert states(operator, workflow_id)["b"] == "skipped"


def test_i8_the_undo_of_one_task_runs_though_its_workflow_had_ended(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    workflow_id = operator.workflow(sealed=True, tasks=on_s({"name": "a", "undo": UNDO}, {"name": "b"}))
    run(agent)
    do(operator, workflow_id, "undo", "a")
    assert run(agent) == ["undo of a"]
    assert states(operator, workflow_id)["a"] == "undone"
    assert state(operator, workflow_id) == "succeeded"


def test_undos_go_against_the_edges_in_whatever_order_the_tasks_were_written(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    tasks = on_s({"name": "b", "requires": ["a"], "undo": UNDO}, {"name": "a", "undo": UNDO})
    workflow_id = operator.workflow(sealed=True, tasks=tasks)
    assert run(agent) == ["a", "b"]
    do(operator, workflow_id, "undo")
    assert run(agent) == ["undo of b", "undo of a"]
    assert state(operator, workflow_id) == "undone"


def test_a_task_whose_undo_is_under_way_is_not_undone_twice(operator: RecordedOperator, agent: RecordedAgent) -> None:
    tasks = on_s({"name": "a", "undo": UNDO}, {"name": "b", "undo": UNDO})
    workflow_id = operator.workflow(sealed=True, tasks=tasks)
    run(agent)
    do(operator, workflow_id, "undo", "a")
    do(operator, workflow_id, "undo")
    assert sorted(run(agent)) == ["undo of a", "undo of b"]
    assert state(operator, workflow_id) == "undone"


def test_i8_an_undo_that_nobody_has_to_run_takes_its_task_back(
    operator: RecordedOperator, agent: RecordedAgent
) -> None:
    tasks = on_s({"name": "a", "undo": {"group": "Heat::Ungrouped"}})
    workflow_id = operator.workflow(sealed=True, tasks=tasks)
    run(agent)
    do(operator, workflow_id, "undo")
    assert states(operator, workflow_id)["a"] == "undone"
    assert state(operator, workflow_id) == "undone"
