# SPDX-License-Identifier: Apache-2.0
"""Two API replicas on one database: they serve the same agents, wake each other's waiters, and may be killed."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import requests

from tests.harness.callers import DEFINITION, Operator, new_id
from tests.harness.servers import ApiProcess
from tests.harness.waiters import until, waiting_polls

T = TypeVar("T")
BOUND = 2.0  # seconds; what was measured is printed
ROUNDS = 30


def waited(wait: Callable[[], T], cause: Callable[[], object], watched: Callable[[], bool]) -> tuple[T, float]:
    """What the waiting call gave, and how many seconds after the other call was answered it came.

    ``watched`` says whether the waiter has arrived.
    """
    got: list[tuple[T, float]] = []
    thread = threading.Thread(target=lambda: got.append((wait(), time.monotonic())))
    thread.start()
    while not watched():
        time.sleep(0.01)
    cause()
    caused = time.monotonic()
    thread.join(60)
    assert got, "the waiter was never answered"
    return got[0][0], got[0][1] - caused


def say(capsys: pytest.CaptureFixture[str], what: str, seconds: list[float]) -> None:
    """Print the quantiles past pytest's capture."""
    late = sorted(max(one, 0.0) for one in seconds)
    p99 = late[min(len(late) - 1, round(len(late) * 0.99))]
    with capsys.disabled():
        print(f"\n{what}: p50 {statistics.median(late) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms of {len(late)}")


def settled(seconds: float = 0.15) -> Callable[[], bool]:
    """True once the waiter had that long to reach its replica and to find nothing there."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def test_an_agent_waiting_at_one_replica_gets_the_task_added_at_the_other(
    replicas: tuple[ApiProcess, ApiProcess], operators: tuple[Operator, Operator], capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = operators
    agent = here.agent(server="s")
    workflow_id = there.workflow()
    late = []
    for n in range(ROUNDS):
        name = f"t{n}"
        taken, seconds = waited(lambda: agent.take(30), lambda: there.task(workflow_id, name, server="s"), settled())  # noqa: B023
        assert taken["name"] == name
        late.append(seconds)
        agent.at(replicas[1].url).report(taken)
    say(capsys, f"added at one replica, claimed at the other ({kind_of(replicas)})", late)
    assert max(late) < BOUND


def test_an_operator_waiting_at_one_replica_hears_of_the_report_at_the_other(
    replicas: tuple[ApiProcess, ApiProcess], operators: tuple[Operator, Operator], capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = operators
    agent = there.agent(server="s")
    workflow_id = here.workflow()
    late = []
    for n in range(ROUNDS):
        task = here.task(workflow_id, f"t{n}", server="s")
        taken = agent.take()
        shown, seconds = waited(lambda: here.show(task, wait=30), lambda: agent.report(taken), settled())  # noqa: B023
        assert shown["state"] == "succeeded"
        late.append(seconds)
    say(capsys, f"reported at one replica, shown at the other ({kind_of(replicas)})", late)
    assert max(late) < BOUND


def kind_of(replicas: tuple[ApiProcess, ApiProcess]) -> str:
    return "PostgreSQL" if "postgresql" in replicas[0].conf.read_text() else "MariaDB"


def test_s18_a_poll_at_one_replica_ends_when_the_agent_is_revoked_at_the_other(
    operators: tuple[Operator, Operator],
) -> None:
    here, there = operators
    agent = here.agent(server="s")
    answer, seconds = waited(
        lambda: agent.claim(30), lambda: there.call("DELETE", f"/v1/agents/{agent.agent_id}"), settled()
    )
    assert (answer.status_code, seconds < BOUND) == (410, True)


def test_a_poll_at_one_replica_ends_when_the_agent_polls_at_the_other(
    replicas: tuple[ApiProcess, ApiProcess], operators: tuple[Operator, Operator]
) -> None:
    one, other = replicas
    agent = operators[0].agent(server="s")
    newer: list[requests.Response] = []
    moved = threading.Thread(target=lambda: newer.append(agent.at(other.url).claim(30)))
    answer, seconds = waited(lambda: agent.claim(30), moved.start, lambda: waiting_polls(one.url) == 1)
    assert (answer.status_code, "superseded" in answer.text, seconds < BOUND) == (409, True, True)
    until(lambda: waiting_polls(other.url) == 1)
    task = operators[0].task(operators[0].workflow(), server="s")
    moved.join(30)
    given = newer[0].json()["task"]
    assert (given["id"], given["attempt"]) == (task["id"], 1)


def test_a_claim_repeated_at_the_other_replica_is_the_same_claim(
    replicas: tuple[ApiProcess, ApiProcess], operators: tuple[Operator, Operator]
) -> None:
    here, _ = operators
    workflow_id = here.workflow()
    for n in range(6):
        here.task(workflow_id, f"t{n}", server="s")
    agent = here.agent(server="s")
    both = [agent, agent.at(replicas[1].url)]
    claim_id = new_id()
    answers: list[requests.Response] = []
    threads = [threading.Thread(target=lambda a=one: answers.append(a.claim(claim_id=claim_id))) for one in both * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    given = [answer.json()["task"] for answer in answers if answer.status_code == 200]
    assert given
    assert {(task["id"], task["attempt"]) for task in given} == {(given[0]["id"], 1)}
    # A poll may be superseded by its own repeat; nothing else may be refused.
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert here.call("GET", f"/v1/workflows/{workflow_id}").json()["counts"] == {"ready": 5, "leased": 1}


class Fleet:
    """Agents and an operator that go to the other replica when one does not answer, and repeat what they said."""

    def __init__(self, replicas: tuple[ApiProcess, ApiProcess], operator: Operator, agents: int, tasks: int) -> None:
        self.urls = [replica.url for replica in replicas]
        self.operator = operator
        self.tasks = tasks
        self.workflow_id = operator.workflow()
        self.agents = [operator.agent(capabilities=["pool"]) for _ in range(agents)]
        self.repeats = 0
        self.added: list[str] = []
        self.reported: list[tuple[str, int]] = []
        self.problems: list[str] = []
        self._all_reported = threading.Event()

    def persistent(self, call: Callable[[str], requests.Response], first: int) -> requests.Response:
        """The answer of whichever replica gives one; 503 and silence are no answer."""
        for turn in range(600):
            try:
                answer = call(self.urls[(first + turn) % 2])
            except requests.RequestException:
                self.repeats += 1
                time.sleep(0.02)
                continue
            if answer.status_code != 503:
                return answer
            self.repeats += 1
            time.sleep(0.05)
        raise AssertionError("no replica answered in 600 turns")

    def add(self) -> None:
        path = f"/v1/workflows/{self.workflow_id}/tasks"
        for n in range(self.tasks):
            task_id = new_id()
            body = {"name": f"t{n}", "definition": DEFINITION, "capabilities": ["pool"]}
            answer = self.persistent(lambda url: self._put(f"{url}{path}/{task_id}", body), n)  # noqa: B023
            if answer.status_code not in (200, 201):
                self.problems.append(f"add: {answer.status_code} {answer.text}")
            self.added.append(task_id)

    def _put(self, url: str, body: dict[str, Any]) -> requests.Response:
        return self.operator.session.put(url, json=body, timeout=10)

    def work(self, number: int) -> None:
        agent = self.agents[number]
        faces = {url: agent.at(url) for url in self.urls}
        while not self._all_reported.is_set():
            claim_id = new_id()
            answer = self.persistent(lambda url: faces[url].claim(0.5, claim_id), number)  # noqa: B023
            if answer.status_code == 204 or (answer.status_code == 409 and "superseded" in answer.text):
                continue
            if answer.status_code == 429:
                time.sleep(1)
                continue
            if answer.status_code != 200:
                self.problems.append(f"claim: {answer.status_code} {answer.text}")
                continue
            task = answer.json()["task"]
            said = self.persistent(lambda url: faces[url].report(task, outputs={"y": task["id"]}), number)  # noqa: B023
            if said.status_code != 200:
                self.problems.append(f"report: {said.status_code} {said.text}")
            self.reported.append((task["id"], task["attempt"]))
            if len(self.reported) >= self.tasks:
                self._all_reported.set()

    def run(self, meanwhile: Callable[[threading.Event], None]) -> None:
        killer = threading.Thread(target=meanwhile, args=(self._all_reported,))
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(len(self.agents))]
        threads.append(threading.Thread(target=self.add))
        for thread in [*threads, killer]:
            thread.start()
        for thread in threads:
            thread.join(240)
        self._all_reported.set()
        killer.join(60)


def test_f2_a_killed_replica_costs_a_repeat_and_nothing_else(
    replicas: tuple[ApiProcess, ApiProcess], operators: tuple[Operator, Operator], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(replicas, operators[0], agents=6, tasks=240)
    kills = 0

    def kill(done: threading.Event) -> None:
        nonlocal kills
        while not done.wait(0.4):
            victim = replicas[kills % 2]
            victim.kill()
            kills += 1
            victim.start()

    fleet.run(kill)
    assert fleet.problems == []
    assert kills >= 2
    assert sorted(task_id for task_id, _ in fleet.reported) == sorted(fleet.added)
    assert {attempt for _, attempt in fleet.reported} == {1}
    shown = operators[1].call("GET", f"/v1/workflows/{fleet.workflow_id}").json()
    assert shown["counts"] == {"succeeded": fleet.tasks}
    events = all_events(operators[1], fleet.workflow_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    succeeded = [event["task_id"] for event in events if event["type"] == "task-succeeded"]
    assert sorted(succeeded) == sorted(fleet.added)
    with capsys.disabled():
        print(f"\n{kind_of(replicas)}: {fleet.tasks} tasks, {kills} kills, {fleet.repeats} repeated calls, none lost")


def all_events(operator: Operator, workflow_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["seq"] if found else 0
        answer = operator.call("GET", f"/v1/workflows/{workflow_id}/events", params={"after": after})
        assert answer.status_code == 200, answer.text
        page: list[dict[str, Any]] = answer.json()["events"]
        if not page:
            return found
        found += page


def test_f51_metrics_say_whether_the_listener_is_connected_where_there_is_one(
    replicas: tuple[ApiProcess, ApiProcess],
) -> None:
    here, _ = replicas
    shown = requests.get(f"{here.url}/metrics", timeout=10).text
    told = [line for line in shown.splitlines() if line.startswith("heat_workflow_listener_connected")]
    database = here.conf.read_text().partition("connection = ")[2]
    assert told == (["heat_workflow_listener_connected 1.0"] if database.startswith("postgresql") else [])
