# SPDX-License-Identifier: Apache-2.0
"""F43, F44: two words about one task at the same moment; the first commit wins and both sides learn it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.faults import counts
from tests.harness.history import History
from tests.harness.invariants import check
from tests.harness.nursery import Nursery
from tests.harness.recorded import RecordedAgent, RecordedOperator
from tests.harness.replicas import Replica, replicas


@pytest.fixture
def two(nursery: Nursery, tmp_path: Path, url: str, kind: str) -> Iterator[list[Replica]]:
    """Two replicas; on SQLite, which one process serves, twice the same one."""
    with replicas(nursery, tmp_path, url, 1 if kind == "sqlite" else 2) as running:
        yield running * 2 if kind == "sqlite" else running


@pytest.fixture
def operator(two: list[Replica], history: History, project: str) -> RecordedOperator:
    return RecordedOperator(history, [two[0].url], project)


def elsewhere(agent: RecordedAgent, replica: Replica, operator: RecordedOperator) -> RecordedAgent:
    """The same agent speaking to another replica, on a connection of its own."""
    there = RecordedOperator(operator.history, [replica.url], operator.project)
    other = RecordedAgent(there, agent.agent_id, "")
    other.secret, other.nonce = agent.secret, agent.nonce
    return other


def at_once(*calls: Callable[[], requests.Response], after: float = 0) -> list[requests.Response]:
    """The answers to two calls made at the same moment, or the second ``after`` seconds behind (before, if < 0)."""
    barrier = threading.Barrier(len(calls))
    answers: dict[int, requests.Response] = {}

    def run(n: int, call: Callable[[], requests.Response]) -> None:
        barrier.wait(30)
        time.sleep(max(0, after if n else -after))
        answers[n] = call()

    threads = [threading.Thread(target=run, args=(n, call)) for n, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [answers[n] for n in range(len(calls))]


def test_g6_the_same_report_at_two_replicas_at_once_is_good_at_both(
    operator: RecordedOperator, two: list[Replica], kind: str, url: str, project: str
) -> None:
    agent = operator.agent(server="s")
    other = elsewhere(agent, two[1], operator)
    workflow_id = operator.workflow()
    for n in range(counts.F44_RACES[kind] // 2):
        operator.task(workflow_id, f"t{n}", server="s")
        task = agent.take()
        agent.start(task)
        heard = at_once(
            lambda task=task: agent.report(task, outputs={"y": "same"}),  # type: ignore[misc]
            lambda task=task: other.report(task, outputs={"y": "same"}),  # type: ignore[misc]
        )
        assert [answer.status_code for answer in heard] == [200, 200], [answer.text for answer in heard]
    check(operator.history, url, project)


def test_f43_cancel_against_report_and_heartbeat_the_first_commit_wins_and_all_learn_it(
    operator: RecordedOperator, two: list[Replica], kind: str, url: str, project: str
) -> None:
    chance = random.Random(43)
    agent = operator.agent(server="s")
    beating = elsewhere(agent, two[1], operator)
    cancelling = RecordedOperator(operator.history, [two[1].url], project)
    workflow_id = operator.workflow()
    ends = {"succeeded": 0, "cancelled": 0}
    for n in range(counts.F43_RACES[kind]):
        task = operator.task(workflow_id, f"t{n}", server="s")
        taken = agent.take()
        agent.start(taken)
        place = f"/v1/workflows/{workflow_id}/tasks/{task['id']}"
        ending = chance.random() < 0.5

        def finish(taken: dict[str, Any] = taken, ending: bool = ending) -> requests.Response:
            if ending:
                return agent.report(taken)
            return beating.heartbeat(taken)

        def cancel(place: str = place) -> requests.Response:
            return cancelling.call("POST", f"{place}/cancel")

        said, cancelled = at_once(finish, cancel, after=chance.uniform(-0.01, 0.01))
        assert said.status_code == 200, said.text
        assert cancelled.status_code == 202, cancelled.text
        if not ending:
            assert agent.heartbeat(taken).json()["cancel"] is True
            assert agent.report(taken, "cancelled").status_code == 200
        shown = operator.show(task)
        assert shown["state"] == ("succeeded" if ending else "cancelled")
        assert cancelled.json()["state"] in ("cancelling", shown["state"])
        ends[shown["state"]] += 1
    assert all(ends.values())
    check(operator.history, url, project)


def test_f44_an_old_report_is_refused_and_the_new_task_of_its_name_is_not_touched(
    operator: RecordedOperator, two: list[Replica], kind: str, url: str, project: str
) -> None:
    agent = operator.agent(server="s")
    updating = RecordedOperator(operator.history, [two[1].url], project)
    workflow_id = operator.workflow()
    for n in range(counts.F44_RACES[kind]):
        operator.task(workflow_id, "web", server="s")
        old = agent.take()
        agent.start(old)
        body = updating.body("web", server="s")
        place = f"/v1/workflows/{workflow_id}/tasks"

        def update(place: str = place, body: dict[str, Any] = body, old: dict[str, Any] = old) -> requests.Response:
            """As an update of a Heat resource: the old task is cancelled, the new one takes its name."""
            updating.call("POST", f"{place}/{old['id']}/cancel")
            return updating.call("PUT", f"{place}/{body['id']}", json=body)

        reported, added = at_once(lambda old=old: agent.report(old, outputs={"y": "old"}), update)  # type: ignore[misc]
        assert (reported.status_code, added.status_code) == (200, 201), reported.text
        fresh = agent.take()
        assert fresh["id"] == body["id"]
        agent.start(fresh)
        assert agent.report({**old, "id": fresh["id"]}, outputs={"y": "old"}).status_code == 409
        assert agent.report(old, "failed", outputs={"y": "other"}).status_code == 409
        assert operator.show(added.json())["state"] == "leased"
        assert agent.report(fresh, outputs={"y": f"new {n}"}).status_code == 200
        assert operator.show(added.json())["outputs"] == {"y": f"new {n}"}
    check(operator.history, url, project)
