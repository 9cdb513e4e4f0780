# SPDX-License-Identifier: Apache-2.0
"""Undo through the real API: in reverse order whoever is quick, and with as many rows as there are edges."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import Any

import pytest

from tests.functional.test_workflows import UNDO, named, run, sealed, state
from tests.harness.callers import DEFINITION, Operator
from tests.harness.servers import ApiProcess

CHAIN = 800
WIDE = 200


def succeeded(api: ApiProcess, operator: Operator, tasks: list[dict[str, Any]]) -> str:
    """A workflow whose tasks have all succeeded, said so in the store: to run them one by one takes a while."""
    workflow_id = operator.workflow(tasks=[{"definition": DEFINITION, "server": "s", **task} for task in tasks])
    with contextlib.closing(sqlite3.connect(api.directory / "store.sqlite", timeout=30)) as store, store:
        store.execute(
            "UPDATE task SET state = 'succeeded', pending = 0, due_at = NULL WHERE workflow_id = ?", (workflow_id,)
        )
    return workflow_id


def undone(api: ApiProcess, operator: Operator, workflow_id: str) -> tuple[int, int]:
    """How many tasks and how many requirement rows the undo of the workflow has added."""
    answer = operator.call("POST", f"/v1/workflows/{workflow_id}/undo")
    assert answer.status_code == 202, answer.text
    with contextlib.closing(sqlite3.connect(api.directory / "store.sqlite", timeout=30)) as store:
        [tasks] = store.execute(
            "SELECT count(*) FROM task WHERE workflow_id = ? AND action = 'UNDO'", (workflow_id,)
        ).fetchone()
        [rows] = store.execute(
            "SELECT count(*) FROM requirement r JOIN task t ON t.id = r.task_id "
            "WHERE t.workflow_id = ? AND t.action = 'UNDO'",
            (workflow_id,),
        ).fetchone()
    return tasks, rows


@pytest.mark.parametrize("every", [1, 4], ids=["each", "every-fourth"])
def test_a_long_chain_is_undone_with_a_row_for_each_undo(api: ApiProcess, operator: Operator, every: int) -> None:
    tasks = [
        {"name": f"t{n}", "requires": [f"t{n - 1}"] if n else [], **({} if n % every else {"undo": UNDO})}
        for n in range(CHAIN)
    ]
    count = CHAIN // every
    assert undone(api, operator, succeeded(api, operator, tasks)) == (count, count - 1)


def test_wide_work_around_one_task_without_undo_is_undone_with_few_rows(api: ApiProcess, operator: Operator) -> None:
    servers = {f"n{n}": f"s{n}" for n in range(WIDE)}
    wide: dict[str, Any] = {"servers": servers, "server": None, "undo": UNDO}
    tasks: list[dict[str, Any]] = [
        {"name": "below", **wide},
        {"name": "hub", "requires": ["below"]},
        {"name": "above", **wide, "requires": ["hub"]},
    ]
    workflow_id = succeeded(api, operator, tasks)
    assert undone(api, operator, workflow_id) == (2 * WIDE + 1, 2 * WIDE)
    above, below = operator.agent(server="s0"), operator.agent(server="s1")
    assert above.take()["name"] == "undo of above/n0"
    assert below.take()["name"] == "undo of above/n1"
    assert below.claim().status_code == 204  # the rest above is not undone yet


def test_no_agent_is_handed_an_undo_before_its_turn(operator: Operator) -> None:
    tasks: list[dict[str, Any]] = [
        {"name": "first", "undo": UNDO, "server": "quick"},
        {"name": "plain", "requires": ["first"], "server": "quick"},
        {"name": "web", "undo": UNDO, "requires": ["plain"], "server": None, "servers": {"x": "slow", "y": "other"}},
        {"name": "join", "requires": ["web"], "server": "quick"},
        {"name": "last", "undo": UNDO, "requires": ["join"], "server": "slow"},
    ]
    workflow_id = sealed(operator, tasks)
    quick, slow, other = (operator.agent(server=server) for server in ("quick", "slow", "other"))
    assert run(quick, 2) == ["first", "plain"]
    assert run(slow, 1) + run(other, 1) == ["web/x", "web/y"]
    assert run(quick, 1) + run(slow, 1) == ["join", "last"]
    assert state(operator, workflow_id) == "succeeded"
    operator.call("POST", f"/v1/workflows/{workflow_id}/undo")
    assert (quick.claim().status_code, other.claim().status_code) == (204, 204)
    assert run(slow, 1) == ["undo of last"]
    assert quick.claim().status_code == 204
    assert run(other, 1) == ["undo of web/y"]
    assert quick.claim().status_code == 204
    assert run(slow, 1, failing=("undo of web/x",)) == ["undo of web/x"]
    assert run(quick, 1) == ["undo of first"]
    assert state(operator, workflow_id) == "failed"
    states = {name: task["state"] for name, task in named(operator, workflow_id).items()}
    assert {name: states[name] for name in ("first", "plain", "join", "web/x", "web/y", "last")} == {
        "first": "undone",
        "plain": "succeeded",
        "join": "succeeded",
        "web/x": "succeeded",
        "web/y": "undone",
        "last": "undone",
    }


@pytest.mark.parametrize("many", [True, False], ids=["actions", "one"])
def test_an_undo_waits_for_one_under_way_of_what_was_built_on_it(operator: Operator, many: bool) -> None:
    tasks: list[dict[str, Any]] = [
        {"name": "a", "undo": UNDO, "server": "quick"},
        {"name": "b", "requires": ["a"], "server": "quick"},
        {"name": "c", "undo": UNDO, "requires": ["b"], "server": "slow"},
    ]
    workflow_id = operator.workflow(tasks=[{"definition": DEFINITION, **task} for task in tasks])
    quick, slow = operator.agent(server="quick"), operator.agent(server="slow")
    assert run(quick, 2) + run(slow, 1) == ["a", "b", "c"]
    ids = {name: task["id"] for name, task in named(operator, workflow_id).items()}
    for name in ("c", "a"):
        path = f"/v1/workflows/{workflow_id}/tasks"
        body = {"action": "undo", "ids": [ids[name]]}
        if many:
            answer = operator.call("POST", f"{path}/actions", json=body)
        else:
            answer = operator.call("POST", f"{path}/{ids[name]}/undo")
        assert answer.status_code == 202, answer.text
    assert quick.claim().status_code == 204
    assert run(slow, 1) + run(quick, 1) == ["undo of c", "undo of a"]


def test_a_rerun_of_a_long_chain_behind_a_task_that_cannot_run_is_refused_quickly(
    api: ApiProcess, operator: Operator
) -> None:
    tasks = [{"name": f"t{n}", "requires": [f"t{n - 1}"] if n else []} for n in range(CHAIN)]
    workflow_id = succeeded(api, operator, tasks)
    with contextlib.closing(sqlite3.connect(api.directory / "store.sqlite", timeout=30)) as store, store:
        store.execute("UPDATE task SET state = 'skipped' WHERE workflow_id = ?", (workflow_id,))
        store.execute(
            "UPDATE task SET state = 'failed', detached = 1 WHERE workflow_id = ? AND name = 't0'", (workflow_id,)
        )
    began = time.monotonic()
    assert operator.call("POST", f"/v1/workflows/{workflow_id}/rerun").status_code == 409
    assert time.monotonic() - began < 10  # half a minute if all are looked at again after each that gave up
