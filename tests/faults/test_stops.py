# SPDX-License-Identifier: Apache-2.0
"""F9, F26, F27: a replica stands still, the database is killed, its connection is cut in COMMIT."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from tests.faults import counts
from tests.harness.callers import new_id
from tests.harness.databases import DatabaseServer
from tests.harness.history import History
from tests.harness.invariants import check
from tests.harness.kept import unfinished
from tests.harness.load import Load
from tests.harness.nemesis import kill_and_restart, open_transactions
from tests.harness.nursery import Nursery
from tests.harness.proxy import ChaosProxy
from tests.harness.recorded import RecordedOperator
from tests.harness.replicas import Replica, replicas

servers = pytest.mark.parametrize("kind", ["postgresql", "mariadb"], indirect=True)


@pytest.fixture
def two(nursery: Nursery, tmp_path: Path, url: str) -> Iterator[list[Replica]]:
    with replicas(nursery, tmp_path, url, 2) as running:
        yield running


@servers
def test_f9_an_agent_whose_replica_stands_still_is_served_by_another(
    two: list[Replica], history: History, project: str, url: str
) -> None:
    stopping, other = two
    operator = RecordedOperator(history, [other.url], project)
    agent = operator.agent(server="s")
    workflow_id = operator.workflow()
    claim_id = new_id()
    claim = {"claim_id": claim_id, "wait": 20}
    bearer = {"Authorization": f"Bearer {agent.bearer}"}

    def poll() -> None:
        with pytest.raises(requests.RequestException):
            requests.post(f"{stopping.url}/agent/v1/claim", json=claim, headers=bearer, timeout=3)

    polling = threading.Thread(target=poll)
    polling.start()
    time.sleep(0.5)  # until the poll waits
    with stopping.paused():
        operator.task(workflow_id, server="s")
        polling.join(10)
        taken = agent.claim(claim_id=claim_id, wait=5).json()["task"]
        assert taken["claim_id"] == claim_id
        agent.start(taken)
        assert agent.report(taken).status_code == 200
    check(history, url, project)


@servers
def test_f9_a_replica_that_stands_still_in_a_transaction_holds_no_lock_for_long(
    two: list[Replica], history: History, project: str, url: str
) -> None:
    stopping, other = two
    operator = RecordedOperator(history, [other.url], project)
    workflow_id = operator.workflow()
    waits = [_wait_behind(stopping, operator, workflow_id, url) for _ in range(counts.F9_ROUNDS)]
    print(f"a write waited {max(waits):.1f} s at most for the locks of a replica that stood still")
    assert max(waits) < 6.5  # 5 s of an idle transaction, and the write itself
    check(history, url, project, over=False)


def _wait_behind(stopping: Replica, operator: RecordedOperator, workflow_id: str, url: str) -> float:
    """Stop the replica in the middle of a write to the workflow; how long a write elsewhere takes then."""
    done = threading.Event()
    thread = threading.Thread(target=_hammer, args=(stopping, operator, workflow_id, done))
    thread.start()
    try:
        for _ in range(100):
            with stopping.paused():
                time.sleep(0.15)  # what was under way in the database is over, and MariaDB's list of it made anew
                if open_transactions(url):
                    began = time.monotonic()
                    operator.task(workflow_id, new_id())
                    return time.monotonic() - began
            time.sleep(random.uniform(0, 0.02))
    finally:
        done.set()
        thread.join(60)
    raise AssertionError("the replica was never caught in a transaction")


def _hammer(replica: Replica, operator: RecordedOperator, workflow_id: str, done: threading.Event) -> None:
    hammering = RecordedOperator(operator.history, [replica.url], operator.project)
    while not done.is_set():
        hammering.task(workflow_id, new_id())


def test_f26_a_killed_database_loses_nothing_that_was_acknowledged(
    nursery: Nursery, tmp_path: Path, history: History, project: str, request: pytest.FixtureRequest
) -> None:
    server: DatabaseServer = request.getfixturevalue("postgresql")
    url = request.getfixturevalue("store_of")("postgresql")
    with replicas(nursery, tmp_path, url, 2) as two:
        load = Load(history, [replica.url for replica in two], project, seed=26)
        load.begin(agents=4, operators=2)
        for _ in range(counts.F26_KILLS):
            time.sleep(2)
            kill_and_restart(server)
        time.sleep(1)
        load.finish(functools.partial(unfinished, url, project))
    told = check(history, url, project)
    refused = sum(call.status == 503 for call in told.calls)
    print(f"{counts.F26_KILLS} kills of the database: {len(told.starts)} starts, {refused} answers of 503; 0 lost")
    assert refused


@servers
def test_f27_a_connection_cut_in_commit_leaves_one_outcome(
    nursery: Nursery, tmp_path: Path, url: str, history: History, project: str, kind: str
) -> None:
    chance = random.Random(27)
    place = sa.make_url(url)
    assert place.port is not None
    with ChaosProxy(place.port).running() as proxy:
        through = place.set(port=proxy.port).render_as_string(hide_password=False)
        with replicas(nursery, tmp_path, through, 1) as [api]:
            load = Load(history, [api.url], project, seed=27)
            load.begin(agents=4, operators=2)
            for n in range(1, counts.F27_CUTS + 1):
                proxy.cut_at(b"COMMIT", heard=chance.random() < 0.5)
                deadline = time.monotonic() + 30
                while proxy.cuts < n and not load.errors:
                    assert time.monotonic() < deadline, "nothing is committed any more"
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.05))
            load.finish(functools.partial(unfinished, url, project))
    told = check(history, url, project)
    refused = sum(call.status == 503 for call in told.calls)
    print(f"{counts.F27_CUTS} commits cut on {kind}: {len(told.starts)} starts, {refused} answers of 503; 0 lost")
    assert refused
