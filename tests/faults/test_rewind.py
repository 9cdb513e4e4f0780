# SPDX-License-Identifier: Apache-2.0
"""F28: the store is put back to an older copy; what agents did meanwhile is heard, and nothing they know runs again."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import counts
from tests.harness.callers import DEFINITION, Operator, new_id
from tests.harness.machine import Machine, wait_for
from tests.harness.nursery import Nursery
from tests.harness.replicas import Replica


class Rewindable:
    """An API on an SQLite file that can be copied while it runs and put back."""

    def __init__(self, nursery: Nursery, directory: Path) -> None:
        self._file = directory / "store.sqlite"
        self._copy = directory / "copy.sqlite"
        self.api = Replica(nursery, directory, f"sqlite:///{self._file}")
        self.api.start()

    def keep(self) -> None:
        """A copy as an operator makes it, of the running store."""
        self._copy.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self._file)) as here,
            contextlib.closing(sqlite3.connect(self._copy)) as there,
        ):
            here.backup(there)

    def go_back(self) -> None:
        """The store as it was when it was copied."""
        self.api.kill()
        for beside in ("-wal", "-shm"):
            Path(f"{self._file}{beside}").unlink(missing_ok=True)
        self._file.write_bytes(self._copy.read_bytes())
        self.api.start()


@pytest.fixture
def rewindable(nursery: Nursery, tmp_path: Path) -> Iterator[Rewindable]:
    made = Rewindable(nursery, tmp_path)
    yield made
    made.api.kill()


def attempts(operator: Operator, task: dict[str, Any]) -> list[dict[str, Any]]:
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/attempts"
    found: list[dict[str, Any]] = operator.call("GET", path).json()["attempts"]
    return found


def test_f28_g15_a_report_of_a_lease_that_the_store_forgot_is_recorded(rewindable: Rewindable) -> None:
    operator = Operator(rewindable.api.url)
    agent, workflow_id = operator.agent(server="s"), operator.workflow()
    task = operator.task(workflow_id, server="s", max_attempts=3, concurrency_key="k")
    after = operator.task(workflow_id, "after", server="t", requires=["t"])
    rewindable.keep()
    assert agent.report(agent.take(), "failed").status_code == 200
    taken = agent.take()
    rewindable.go_back()
    assert operator.show(task)["state"] == "ready"
    assert agent.heartbeat(taken).json()["cancel"] is False
    held = operator.show(task)
    assert (held["state"], held["attempt"], held["agent_id"]) == ("leased", 2, agent.agent_id)
    assert agent.claim().status_code == 204
    assert agent.report(taken, outputs={"y": "kept"}).status_code == 200
    assert agent.report(taken, outputs={"y": "kept"}).status_code == 200
    assert agent.report(taken, outputs={"y": "other"}).status_code == 409
    shown = operator.show(task)
    assert (shown["state"], shown["attempt"], shown["outputs"]) == ("succeeded", 2, {"y": "kept"})
    assert operator.show(after)["state"] == "ready"
    assert [one["attempt"] for one in attempts(operator, task)] == [2]
    events = operator.call("GET", f"/v1/agents/{agent.agent_id}/events").json()["events"]
    noted = [event["body"] for event in events if event["type"] == "lease-remembered"]
    assert noted == [{"task_id": task["id"], "attempt": 2, "stored": 0}]


def test_f28_g15_a_report_without_a_heartbeat_before_it_is_recorded_too(rewindable: Rewindable) -> None:
    operator = Operator(rewindable.api.url)
    agent, workflow_id = operator.agent(server="s"), operator.workflow()
    task = operator.task(workflow_id, server="s", max_attempts=2)
    first = agent.take()
    rewindable.keep()
    assert agent.report(first, "failed").status_code == 200
    second = agent.take()
    rewindable.go_back()
    assert operator.show(task)["attempt"] == 1
    assert agent.report(second, "failed").status_code == 200
    assert operator.show(task)["state"] == "failed", "the attempts that were lost count"
    assert [(one["attempt"], one["result"]) for one in attempts(operator, task)] == [(1, "lost"), (2, "failed")]


def test_f28_what_only_looks_forgotten_is_fenced(rewindable: Rewindable) -> None:
    operator = Operator(rewindable.api.url)
    agent, other = operator.agent(server="s", capabilities=["pool"]), operator.agent(server="t")
    workflow_id = operator.workflow()
    place = f"/v1/workflows/{workflow_id}"
    pool = operator.task(workflow_id, "pool", capabilities=["pool"])
    later = operator.task(workflow_id, "later", server="s", requires=["pool"])
    foreign = operator.task(workflow_id, "foreign", server="t")
    mine = operator.task(workflow_id, "mine", server="s")
    over = operator.task(workflow_id, "over", server="s", max_attempts=2)
    operator.call("POST", f"{place}/tasks/{over['id']}/cancel")

    def says(task: dict[str, Any], attempt: int, claim_id: str | None = None) -> int:
        lease = {"id": task["id"], "attempt": attempt, "claim_id": claim_id or new_id()}
        return agent.report(lease).status_code

    assert says(pool, 1) == 404, "another agent may have it"
    assert says(later, 1) == 404, "its requirement is not finished"
    assert says(foreign, 1) == 404
    assert says(over, 1) == 404
    assert says(mine, 102) == 404, "no task has so many attempts"
    known = agent.take()
    assert says(mine, 2, known["claim_id"]) in (404, 409)
    states = [operator.show(task)["state"] for task in (later, foreign, over)]
    assert states == ["waiting", "ready", "cancelled"]
    assert other.take()["id"] == foreign["id"]


def test_f28_a_result_that_was_acknowledged_and_lost_is_asked_for_again(rewindable: Rewindable) -> None:
    """The copy holds the lease, the agent is done with it: once stalled it is handed out again as it was."""
    operator = Operator(rewindable.api.url)
    agent, workflow_id = operator.agent(server="s"), operator.workflow()
    task = operator.task(workflow_id, server="s")
    taken = agent.take()
    rewindable.keep()
    assert agent.report(taken, outputs={"y": "done"}).status_code == 200
    rewindable.go_back()
    _let_the_lease_run_out(rewindable, task["id"])
    wait_for(lambda: operator.show(task)["state"] == "stalled")
    again = agent.take()
    assert (again["id"], again["attempt"], again["claim_id"]) == (task["id"], 1, taken["claim_id"])
    assert agent.report(again, outputs={"y": "done"}).status_code == 200
    assert operator.show(task)["state"] == "succeeded"


def _let_the_lease_run_out(rewindable: Rewindable, task_id: str) -> None:
    """As if the copy were as old as copies are."""
    rewindable.api.kill()
    with contextlib.closing(sqlite3.connect(rewindable._file)) as store, store:
        store.execute("UPDATE task SET lease_until = lease_until - 100, due_at = due_at - 100 WHERE id = ?", (task_id,))
    rewindable.api.start()


def test_f28_a_real_agent_runs_nothing_twice_whatever_copy_is_put_back(rewindable: Rewindable, tmp_path: Path) -> None:
    """Tasks one after the other, the store put back at random times; every start leaves a line outside."""
    operator = Operator(rewindable.api.url)
    agent_id, token = operator.register(server="s")
    starts = tmp_path / "starts"
    guest = Machine(tmp_path / "guest", rewindable.api.url, agent_id, token)
    guest.start()
    chance = random.Random(28)
    try:
        wait_for(lambda: operator.call("GET", f"/v1/agents/{agent_id}").json()["state"] == "active")
        for n in range(counts.F28_REWINDS):
            go = tmp_path / f"go-{n}"
            config = f"echo {n} >> {starts}; while [ ! -e {go} ]; do sleep 0.02; done; echo {n}\n"
            workflow_id = operator.workflow()
            definition = {**DEFINITION, "config": config}
            task = operator.task(workflow_id, f"t{n}", server="s", definition=definition)
            moment = chance.choice(["ready", "running"])
            if moment == "ready":
                _copy_before_the_claim(rewindable, operator, workflow_id, task)
            wait_for(lambda: starts.exists() and str(n) in starts.read_text().split())  # noqa: B023
            if moment == "running":
                rewindable.keep()
            if chance.random() < 0.5:
                go.touch()
                wait_for(lambda: operator.show(task)["state"] == "succeeded")  # noqa: B023
            rewindable.go_back()
            if moment == "running":
                _let_the_lease_run_out(rewindable, task["id"])
            go.touch()
            wait_for(lambda: operator.show(task)["state"] == "succeeded", 60)  # noqa: B023
            assert operator.show(task)["deploy_stdout"] == f"{n}\n"
    finally:
        guest.end()
    assert starts.read_text().split() == [str(n) for n in range(counts.F28_REWINDS)]


def _copy_before_the_claim(rewindable: Rewindable, operator: Operator, workflow_id: str, task: dict[str, Any]) -> None:
    """A copy in which the task is ready: made from the present one, where it may be leased already."""
    rewindable.keep()
    with contextlib.closing(sqlite3.connect(rewindable._copy)) as copy, copy:
        copy.execute("DELETE FROM attempt WHERE task_id = ?", (task["id"],))
        copy.execute(
            "UPDATE task SET state = 'ready', attempt = 0, attempts_left = 1, agent_id = NULL, claim_id = NULL, "
            "lease_until = NULL, due_at = NULL WHERE id = ?",
            (task["id"],),
        )
