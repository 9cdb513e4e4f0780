# SPDX-License-Identifier: Apache-2.0
"""The restore drill: a backup three days old, many agents, and nobody touches a guest."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.harness.callers import Operator, new_id
from tests.harness.servers import ApiProcess
from tests.harness.survivors import Survivor

AGENTS = int(os.environ.get("HEAT_WORKFLOW_DRILL", "60"))  # 200 takes half a minute on a busy machine
DAYS = 3
# For an agent to take and report, without a process for each of them.
NOTHING = {"group": "component", "config": {"configs": [{"actions": ["DELETE"], "tool": "script"}]}}
Fleet = dict[str, Survivor]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(tmp_path / "api", f"sqlite:///{tmp_path}/api/store.sqlite")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def operator(process: ApiProcess) -> Operator:
    return Operator(process.url, project="drill")


@pytest.fixture
def fleet(process: ApiProcess, operator: Operator, tmp_path: Path) -> Iterator[Fleet]:
    """The agents, each joined; what lives at the end is revoked, so that it ends by itself."""
    made: Fleet = {}
    for number in range(AGENTS):
        agent_id, token = operator.register(server=f"s{number}")
        made[agent_id] = Survivor(tmp_path / f"guest{number}", process.url, agent_id, token)
    together(made, Survivor.join)
    yield made
    for agent_id in made:
        operator.call("DELETE", f"/v1/agents/{agent_id}")
    for survivor in made.values():
        survivor.end()


def together(fleet: Fleet, deed: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(deed, fleet.values()))


def backed_up(process: ApiProcess) -> Path:
    """A copy of the store as it stands, made with the API stopped."""
    process.stop()
    copy = process.directory / "backup.sqlite"
    with sqlite3.connect(process.directory / "store.sqlite") as store, sqlite3.connect(copy) as into:
        store.backup(into)
    process.start()
    return copy


def restored(process: ApiProcess, backup: Path, days: float) -> None:
    """The backup put in the store's place; every time in it is so many days ago."""
    process.stop()
    for path in process.directory.glob("store.sqlite*"):
        path.unlink()
    shutil.copy(backup, process.directory / "store.sqlite")
    with sqlite3.connect(process.directory / "store.sqlite") as store:
        for column in ("created_at", "last_seen_at", "cred_made_at", "join_used_at", "prev_until"):
            store.execute(f"UPDATE agent SET {column} = {column} - ?", (days * 86400,))
    process.start()


def test_s62_g15_a_backup_three_days_old_is_restored_and_every_agent_comes_back_by_itself(
    process: ApiProcess, operator: Operator, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = backed_up(process)
    for _ in range(2 * DAYS):
        together(fleet, Survivor.rotate)
    restored(process, backup, DAYS)
    started = time.monotonic()
    for survivor in fleet.values():
        survivor.live()
    workflow_id = operator.workflow()
    tasks = [{"id": new_id(), "name": f"t{n}", "definition": NOTHING, "server": f"s{n}"} for n in range(AGENTS)]
    assert operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json={"tasks": tasks}).status_code == 201
    shown = [operator.show({"workflow_id": workflow_id, "id": task["id"]}, wait=50) for task in tasks]
    seconds = time.monotonic() - started
    assert {task["state"] for task in shown} == {"succeeded"}
    agents = operator.call("GET", "/v1/agents").json()["agents"]
    assert {agent["state"] for agent in agents} == {"active"}
    with capsys.disabled():
        print(f"\n{AGENTS} agents came back {DAYS} days in {seconds:.1f} s, each took its task")
