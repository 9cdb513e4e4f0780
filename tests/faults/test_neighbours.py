# SPDX-License-Identifier: Apache-2.0
"""F47: one agent floods the API; its neighbours do not feel it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.faults import counts
from tests.harness.callers import Operator, SimulatedAgent, new_id
from tests.harness.nursery import Nursery
from tests.harness.replicas import Replica, replicas

NEIGHBOURS = 10
PACE = 0.4  # seconds between two tasks of one neighbour
# The bound is wide because the test shares two processors with the flood it makes; unlimited, the flood's own queue
# of requests would stand before every neighbour's.
P99_MOST_MORE = 0.4  # seconds


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_f47_a_flooding_agent_does_not_slow_its_neighbours_down(nursery: Nursery, tmp_path: Path, url: str) -> None:
    with replicas(nursery, tmp_path, url, 1) as [api]:
        neighbours = [Operator(api.url, project=new_id()) for _ in range(NEIGHBOURS)]
        agents = [operator.agent(server="s") for operator in neighbours]
        flooder = Operator(api.url, project=new_id()).agent()
        quiet = _p99(neighbours, agents)
        with _flooding(api, flooder) as heard:
            rows = _size(url)
            flooded = _p99(neighbours, agents)
            audited = _size(url) - rows
    print(f"p99 of a neighbour's turn: {quiet * 1000:.0f} ms, under the flood {flooded * 1000:.0f} ms; {heard}")
    assert flooded < quiet + P99_MOST_MORE
    assert heard["429"] > 0.8 * sum(heard.values())
    assert audited < 50  # security events of a flood are few, however long it is


def _p99(neighbours: list[Operator], agents: list[SimulatedAgent]) -> float:
    """Of the time from adding a task to its outcome being recorded, over all neighbours."""
    turns: list[float] = []
    until = time.monotonic() + counts.F47_SECONDS

    def live(operator: Operator, agent: SimulatedAgent) -> None:
        workflow_id = operator.workflow()
        while (began := time.monotonic()) < until:
            operator.task(workflow_id, new_id(), server="s")
            assert agent.report(agent.take()).status_code == 200
            turns.append(time.monotonic() - began)
            time.sleep(max(0.0, began + PACE - time.monotonic()))

    threads = [threading.Thread(target=live, args=pair) for pair in zip(neighbours, agents, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(turns) > NEIGHBOURS
    return sorted(turns)[int(len(turns) * 0.99)]


@contextlib.contextmanager
def _flooding(api: Replica, agent: SimulatedAgent) -> Iterator[dict[str, int]]:
    """The flood for the time of the block; afterwards the answers it got, by status."""
    command = [sys.executable, "-m", "tests.faults.flood", str(api.port), agent.bearer]
    heard: dict[str, int] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flood:
        try:
            yield heard
            said, _ = flood.communicate("", timeout=30)
            heard |= json.loads(said)
        finally:
            flood.kill()


def _size(url: str) -> int:
    """Rows of security events."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = int(connection.exec_driver_sql("SELECT count(*) FROM agent_event").scalar_one())
    engine.dispose()
    return found
