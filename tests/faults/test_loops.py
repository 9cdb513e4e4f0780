# SPDX-License-Identifier: Apache-2.0
"""G28: background work of the API meets what nobody expects; it is told in log, healthz and metrics, and goes on."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from tests.harness.callers import Operator, new_id
from tests.harness.nursery import Nursery
from tests.harness.replicas import Replica
from tests.harness.waiters import until

SERVERS = ("postgresql", "mariadb")
LOOPS = [  # what raises in which loop how often, and in which stores
    ("expiry", "expire.look:2:raise", 2, ("sqlite", *SERVERS)),
    ("last-seen", "seen.saved:1:raise", 1, ("sqlite",)),
    ("writer", "commit.before:1:raise", 1, ("sqlite",)),
    ("writer", "group.written:1:raise", 1, ("sqlite", *SERVERS)),
    ("news-in", "news.heard:2:raise", 2, SERVERS),
    ("news-out", "news.told:1:raise", 1, SERVERS),
]
CASES = [(name, failpoint, count, kind) for name, failpoint, count, kinds in LOOPS for kind in kinds]


def health(replica: Replica) -> dict[str, Any]:
    answer = requests.get(f"{replica.url}/healthz", timeout=10)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def loop_of(replica: Replica, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(loop for loop in health(replica)["loops"] if loop["name"] == name)
    return found


def finished_at(replica: Replica, name: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(loop_of(replica, name)["finished_at"] or "1970-01-01T00:00:00Z")


def metric(replica: Replica, name: str, loop: str) -> float:
    text = requests.get(f"{replica.url}/metrics", timeout=10).text
    found = re.search(rf'^heat_workflow_loop_{name}{{loop="{loop}"}} (\S+)', text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


@pytest.fixture
def armed(nursery: Nursery, tmp_path: Path) -> Iterator[list[Replica]]:
    """Replicas that the test starts; they end with it."""
    made: list[Replica] = []
    yield made
    for replica in made:
        replica.kill()


def started(
    armed: list[Replica], nursery: Nursery, path: Path, url: str, failpoint: str = "", before: str | None = None
) -> Replica:
    replica = Replica(nursery, path, url)
    armed.append(replica)
    replica.start(failpoint, before)
    return replica


def use(operator: Operator) -> None:
    """Something of everything: an agent is seen, a wake-up is told, a deadline passes."""
    server = new_id()
    until(lambda: operator.call("POST", "/v1/workflows", json={"name": "w"}).status_code == 201)
    agent = operator.agent(server=server)
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server=server)
    agent.report(agent.take())
    late = operator.task(workflow_id, "b", server=new_id(), deadline=0.1)
    assert operator.show(late, wait=30)["state"] == "timed_out"


@pytest.mark.parametrize(
    ("name", "failpoint", "count", "kind"),
    CASES,
    ids=[f"{failpoint.partition(':')[0]}-{kind}" for _, failpoint, _, kind in CASES],
)
def test_g28_a_loop_that_meets_an_unexpected_error_goes_on_and_says_so(
    name: str,
    failpoint: str,
    count: int,
    kind: str,
    store_of: Callable[[str], str],
    nursery: Nursery,
    tmp_path: Path,
    project: str,
    armed: Any,
) -> None:
    replica = started(armed, nursery, tmp_path, store_of(kind), failpoint)
    operator = Operator(replica.url, project)
    use(operator)
    until(lambda: loop_of(replica, name)["failures"] == count)
    failed = datetime.datetime.now(datetime.timezone.utc)
    use(operator)
    until(lambda: finished_at(replica, name) > failed)
    assert loop_of(replica, name)["health"] == "failing"
    assert health(replica)["status"] == "degraded"
    assert metric(replica, "failures_total", name) == count
    assert metric(replica, "behind_seconds", name) < 10
    assert metric(replica, "last_finished_timestamp_seconds", name) > 1e9
    log = replica.log.read_text()
    assert log.count(f"Background loop {name} met an error and goes on") == 1
    assert log.count("raise Injected(name)") == 1, "the traceback, once"


@pytest.mark.parametrize("ruined", ["spec", "state"])
def test_g28_a_task_that_cannot_be_moved_does_not_hold_up_the_others(
    ruined: str, nursery: Nursery, tmp_path: Path, url: str, project: str, armed: Any
) -> None:
    replica = started(armed, nursery, tmp_path, url)
    operator = Operator(replica.url, project)
    bad = operator.task(operator.workflow(), "bad", server=new_id(), deadline=3600)
    store = sa.create_engine(url)
    with store.begin() as connection:
        connection.execute(
            sa.text(f"UPDATE task SET {ruined} = 'nonsense', due_at = 1 WHERE id = :id"), {"id": bad["id"]}
        )
    try:
        until(lambda: loop_of(replica, "expiry")["failures"] > 0)
        for _ in range(2):
            use(operator)
        assert f"Task {bad['id']} could not be moved on" in replica.log.read_text()
        assert health(replica)["status"] == "degraded"
    finally:
        with store.begin() as connection:
            connection.execute(sa.text("DELETE FROM task WHERE id = :id"), {"id": bad["id"]})
        store.dispose()


@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
def test_g28_healthz_refuses_while_a_write_does_not_come_to_its_end(
    kind: str, store_of: Callable[[str], str], nursery: Nursery, tmp_path: Path, project: str, armed: Any
) -> None:
    """On SQLite any write, on a server the turns of agents: there an operator's write has a thread of its own."""
    replica = started(armed, nursery, tmp_path, store_of(kind), before="tests.faults.sabotage:slow_to_write")
    assert loop_of(replica, "writer")["health"] == "ok"  # others may be late by half a second
    operator = Operator(replica.url, project)
    write: Callable[[], object] = operator.workflow
    if kind != "sqlite":
        server = new_id()
        write = operator.agent(server=server).take
        operator.task(operator.workflow(), server=server)
    writing = threading.Thread(target=write)
    writing.start()
    until(lambda: requests.get(f"{replica.url}/healthz", timeout=10).status_code == 503)
    answer = requests.get(f"{replica.url}/healthz", timeout=10)
    assert "writer for " in answer.json()["errors"][0]["detail"]
    writing.join()
    until(lambda: requests.get(f"{replica.url}/healthz", timeout=10).status_code == 200)
