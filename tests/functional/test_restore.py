# SPDX-License-Identifier: Apache-2.0
"""The restore drill: a backup three days old, many agents, and nobody touches a guest."""

from __future__ import annotations

import datetime
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.functional.test_manage import manage
from tests.harness.callers import Operator, new_id
from tests.harness.servers import ApiProcess
from tests.harness.survivors import Survivor
from tests.harness.waiters import until

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


def served(process: ApiProcess, halves: str) -> None:
    """The API started with these halves, on the same port."""
    process.stop()
    lines = [line for line in process.conf.read_text().splitlines() if not line.startswith("serve")]
    process.conf.write_text("\n".join([lines[0], f"serve = {halves}", *lines[1:], ""]))
    process.start()


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


def test_the_drill_can_be_done_step_by_step_as_the_page_says(process: ApiProcess, tmp_path: Path) -> None:
    admin = Operator(process.url, project="operators", roles="admin,member,reader")
    owners = {project: Operator(process.url, project=project) for project in ("one", "two")}
    fleet: Fleet = {}
    work: dict[str, str] = {}
    for project, owner in owners.items():
        for server in ("stays", "goes"):
            heat = {"stack_id": f"{project}-{server}", "resource": "machine"}
            agent_id, token = owner.register(server=server, heat=heat)
            fleet[agent_id] = Survivor(tmp_path / f"{project}-{server}", process.url, agent_id, token)
        work[project] = owner.workflow()
        owner.task(work[project], definition=NOTHING, server="stays")
    together(fleet, Survivor.join)
    backup = backed_up(process)
    gone = [agent_id for agent_id in fleet if str(fleet[agent_id].directory).endswith("goes")]
    for agent_id in gone:
        project = fleet[agent_id].directory.name.partition("-")[0]
        assert owners[project].call("DELETE", f"/v1/agents/{agent_id}").status_code == 204
    together({agent_id: one for agent_id, one in fleet.items() if agent_id not in gone}, Survivor.rotate)

    restored(process, backup, DAYS)  # steps 1 and 2
    manage(process, "db", "sync")
    manage(process, "key", "check")
    served(process, "operator")  # step 3
    assert requests.post(f"{process.url}/agent/v1/hello", timeout=10).status_code == 404
    everywhere = {"all_projects": "true"}
    listed = admin.call("GET", "/v1/agents", params=everywhere).json()["agents"]
    dead = [agent for agent in listed if agent["heat"]["stack_id"].endswith("goes")]
    assert {agent["id"] for agent in dead} == set(gone)
    for agent in dead:
        assert admin.call("DELETE", f"/v1/agents/{agent['id']}").status_code == 404
        assert owners[agent["project_id"]].call("DELETE", f"/v1/agents/{agent['id']}").status_code == 204
    open_ = admin.call("GET", "/v1/workflows", params={**everywhere, "state": "active"}).json()["workflows"]  # step 4
    assert {(one["id"], one["project_id"]) for one in open_} == {(work[name], name) for name in owners}
    assert all(one["counts"] == {"ready": 1} for one in open_)
    assert owners["two"].call("POST", f"/v1/workflows/{work['two']}/pause").status_code == 202
    served(process, "operator,guest")  # step 5
    since = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for survivor in fleet.values():
        survivor.live()
    until(lambda: owners["one"].call("GET", f"/v1/workflows/{work['one']}").json()["counts"] == {"succeeded": 1})
    missing = {**everywhere, "seen_before": since, "state": "active"}
    until(lambda: admin.call("GET", "/v1/agents", params=missing).json()["agents"] == [])
    assert owners["two"].call("GET", f"/v1/workflows/{work['two']}").json()["counts"] == {"ready": 1}
    for agent_id in set(fleet) - set(gone):
        project = fleet[agent_id].directory.name.partition("-")[0]
        owners[project].call("DELETE", f"/v1/agents/{agent_id}")
    for survivor in fleet.values():
        survivor.end()
