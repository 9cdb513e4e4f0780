# SPDX-License-Identifier: Apache-2.0
"""F1: the API dies between every two statements; it comes back, its clients repeat what was not answered."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heat_workflow.failpoints import EXIT_STATUS
from tests.faults import counts
from tests.harness.callers import new_id
from tests.harness.history import History
from tests.harness.invariants import check
from tests.harness.nursery import Nursery
from tests.harness.recorded import RecordedAgent, RecordedOperator
from tests.harness.replicas import Replica

ROOT = Path(__file__).resolve().parents[2]


def _names() -> list[str]:
    """Every failpoint that the source names."""
    found: set[str] = set()
    for path in (ROOT / "heat_workflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                argument = node.args[0]
                assert isinstance(argument, ast.Constant), f"{path}: a failpoint's name is written out"
                found.add(str(argument.value))
    return sorted(found)


NAMES = _names()
HIT: dict[str, set[str]] = {"sqlite": set(), "postgresql": set(), "mariadb": set()}


class Reviver:
    """Starts the API again whenever a caller finds it dead, armed as long as kills are left."""

    def __init__(self, replica: Replica, name: str, kills: int) -> None:
        self._replica = replica
        self._name = name
        self._left = kills
        self.hits = 0
        self.start()

    def start(self) -> None:
        # At the first, second, third hit in turn: the same moment of different requests.
        self._replica.start(f"{self._name}:{self.hits % 3 + 1}" if self._left > self.hits else "")

    def revive(self) -> None:
        if self._replica.ended(0.05):
            assert self._replica.status == EXIT_STATUS, self._replica.log.read_text()[-2000:]
            self.hits += 1
            self.start()


@pytest.fixture
def replica(nursery: Nursery, tmp_path: Path, url: str) -> Iterator[Replica]:
    replica = Replica(nursery, tmp_path, url)
    yield replica
    replica.kill()


@pytest.mark.parametrize("name", NAMES)
def test_f1_the_api_dies_at_every_failpoint_and_nothing_is_lost(
    name: str, kind: str, replica: Replica, url: str, history: History, project: str
) -> None:
    kills = counts.F1_SQLITE if kind == "sqlite" else counts.F1_SERVERS
    reviver = Reviver(replica, name, kills)
    operator = RecordedOperator(history, [replica.url], project, on_silence=reviver.revive)
    rounds = 0
    while reviver.hits < kills:
        rounds += 1
        assert rounds <= 2 + 3 * kills, f"{name} was hit {reviver.hits} times in {rounds} rounds"
        _whole_life(operator)
    check(history, url, project)
    HIT[kind].add(name)


def _whole_life(operator: RecordedOperator) -> None:
    """Every verb: register, enroll, add in both ways, claim, heartbeat, report in both ways, cancel."""
    server = new_id()
    agent = operator.agent(server=server)
    fields = {"server": server, "hidden_outputs": ["y"]}
    workflow_id = operator.workflow(
        sealed=True,
        tasks=[
            {"name": "a", **fields},
            {"name": "b", "requires": ["a"], "server": server},
            {"name": "roll", "servers": {"x": server, "y": server}, "batch": {"max_size": 1}, "requires": ["b"]},
        ],
    )
    first = agent.take()
    agent.start(first)
    assert agent.heartbeat(first).status_code == 200
    following = agent.report(first, claim={"claim_id": new_id(), "wait": 5}).json()["task"]
    for _ in range(3):
        agent.start(following)
        assert agent.report(following).status_code == 200
        if following["name"] != "roll/y":
            following = agent.take()
    assert operator.call("GET", f"/v1/workflows/{workflow_id}").json()["state"] == "succeeded"
    _cancelled_life(operator, agent, server)


def _cancelled_life(operator: RecordedOperator, agent: RecordedAgent, server: str) -> None:
    workflow_id = operator.workflow()
    task = operator.task(workflow_id, "c", server=server)
    waiting = operator.task(workflow_id, "d", server=server, requires=["c"])
    taken = agent.take()
    agent.start(taken)
    for one in (waiting, task):
        answer = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks/{one['id']}/cancel")
        assert answer.status_code == 202
    assert agent.heartbeat(taken).json()["cancel"] is True
    assert agent.report(taken, "cancelled").status_code == 200
    shown = operator.show(task)
    assert (shown["state"], shown["confirmed"]) == ("cancelled", True)


def test_f1_every_failpoint_was_hit(request: pytest.FixtureRequest, store_of: Callable[[str], str]) -> None:
    ran = {item.name for item in request.session.items if item.path == request.path}
    if len(ran) == 1:
        pytest.fail("this judges the runs of the whole file; run the file", pytrace=False)
    for kind, hit in HIT.items():
        assert hit == set(NAMES), f"never hit on {kind}: {sorted(set(NAMES) - hit)}"
