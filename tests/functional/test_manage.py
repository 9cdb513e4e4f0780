# SPDX-License-Identifier: Apache-2.0
"""heat-workflow-manage on every database, beside a running API."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from heat_workflow.store import schema, tables
from tests.harness.callers import Operator, SimulatedAgent
from tests.harness.servers import ApiProcess

DAY = 86400.0


def new_url(kind: str, request: pytest.FixtureRequest, directory: Path) -> str:
    """A database without tables."""
    if kind == "sqlite":
        return f"sqlite:///{directory}/store.sqlite"
    return str(request.getfixturevalue(kind).new_database(f"manage_{uuid.uuid4().hex[:8]}"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API on one kind of database, brought up by the command itself."""
    directory = tmp_path_factory.mktemp(request.param)
    api = ApiProcess(directory, new_url(request.param, request, directory))
    assert manage(api, "db", "sync").stdout.splitlines()[-1] == f"ran {schema.newest()}"
    api.start()
    yield api
    api.stop()


@pytest.fixture
def own(process: ApiProcess) -> Operator:
    """An operator in a project of the test's own."""
    return Operator(process.url, project=uuid.uuid4().hex)


def manage(api: ApiProcess, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heat_workflow.cmd.manage", "--config-file", str(api.conf), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def connection_of(api: ApiProcess) -> str:
    lines = api.conf.read_text().splitlines()
    return next(line.partition(" = ")[2] for line in lines if line.startswith("connection"))


def test_a_synced_database_is_left_as_it_is(process: ApiProcess) -> None:
    for phase in ((), ("--pre",), ("--post",)):
        said = manage(process, "db", "sync", *phase).stdout
        assert said == f"nothing to do: the database stands at {schema.newest()}\n"
    assert manage(process, "db", "version").stdout == f"{schema.newest()} (this release: {schema.newest()})\n"


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_f31_the_api_refuses_a_database_without_its_schema(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    api = ApiProcess(tmp_path, new_url(kind, request, tmp_path))
    with pytest.raises(AssertionError, match="run heat-workflow-manage db sync"):
        api.start()
    assert manage(api, "db", "version").stdout.startswith("none ")
    manage(api, "db", "sync", "--pre")
    api.start()
    api.stop()


def ended_workflow(own: Operator) -> str:
    """A sealed workflow whose only task succeeded."""
    body = {"group": "script", "config": "true"}
    workflow_id = own.workflow(sealed=True, tasks=[{"name": "t", "definition": body, "server": "s"}])
    agent = own.agent(server="s")
    agent.report(agent.take())
    assert own.call("GET", f"/v1/workflows/{workflow_id}").json()["state"] == "succeeded"
    return workflow_id


def age(api: ApiProcess, table: sa.Table, row_id: str, column: str, days: float) -> None:
    """Let something have happened that many days earlier."""
    engine = sa.create_engine(connection_of(api))
    with engine.begin() as connection:
        older = {column: table.c[column] - days * DAY}
        connection.execute(sa.update(table).where(table.c.id == row_id).values(older))
    engine.dispose()


def test_a_purge_removes_what_ended_long_ago_and_nothing_else(process: ApiProcess, own: Operator) -> None:
    old, young, running = ended_workflow(own), ended_workflow(own), own.workflow()
    own.task(running, server="other")
    age(process, tables.workflow, old, "finished_at", 8)
    gone, tombstone, alive = (own.register(name=f"a{n}")[0] for n in range(3))
    for agent_id in (gone, tombstone):
        assert own.call("DELETE", f"/v1/agents/{agent_id}").status_code == 204
    age(process, tables.agent, gone, "revoked_at", 31)
    age(process, tables.agent, tombstone, "revoked_at", 29)

    said = manage(process, "db", "purge", "--older-than", "7", "--dry-run").stdout
    assert said == "would remove 1 workflows and 1 revoked agents\n"
    assert own.call("GET", f"/v1/workflows/{old}").status_code == 200
    said = manage(process, "db", "purge", "--older-than", "7").stdout
    assert said.startswith("removed 1 workflows and 1 revoked agents, and ")
    assert manage(process, "db", "purge", "--older-than", "7").stdout.startswith("removed 0 workflows and 0 ")

    shown = {workflow: own.call("GET", f"/v1/workflows/{workflow}").status_code for workflow in (old, young, running)}
    assert shown == {old: 404, young: 200, running: 200}
    assert own.call("GET", f"/v1/agents/{alive}").status_code == 200
    register = {"name": "again"}
    assert own.call("PUT", f"/v1/agents/{tombstone}", json=register).status_code == 409  # S21: the id stays burnt
    assert own.call("PUT", f"/v1/agents/{gone}", json=register).status_code == 201


def test_a_purge_keeps_to_keep_days_when_nothing_is_said(process: ApiProcess, own: Operator) -> None:
    workflow_id = ended_workflow(own)
    age(process, tables.workflow, workflow_id, "finished_at", 29)
    assert manage(process, "db", "purge").stdout.startswith("removed 0 workflows")
    age(process, tables.workflow, workflow_id, "finished_at", 2)
    assert manage(process, "db", "purge").stdout.startswith("removed 1 workflows")


def test_s62_revoked_sessions_lock_every_agent_out_until_it_joins_again(process: ApiProcess, own: Operator) -> None:
    agents = [own.agent(server=f"s{n}") for n in range(2)]
    unused_id, unused_token = own.register(name="unused")
    said = manage(process, "session", "revoke-all").stdout
    assert "are locked out until they join again: heat-workflow-manage agent rejoin --all" in said
    assert {agent.claim().status_code for agent in agents} == {401}
    assert SimulatedAgent(own.url, unused_id, unused_token).enroll().status_code == 401

    lines = manage(process, "agent", "rejoin", "--project", project_of(own)).stdout.splitlines()
    tokens = {row["agent_id"]: row for row in map(json.loads, lines)}
    assert set(tokens) == {agents[0].agent_id, agents[1].agent_id, unused_id}
    assert tokens[agents[1].agent_id]["server"] == "s1"
    task = own.task(own.workflow(), server="s0")
    again = SimulatedAgent(own.url, agents[0].agent_id, tokens[agents[0].agent_id]["join_token"])
    assert again.enroll().status_code == 201
    assert again.hello().status_code == 200
    assert again.take()["id"] == task["id"]
    assert agents[0].claim().status_code == 401


def project_of(operator: Operator) -> str:
    return str(operator.session.headers["X-Auth-Token"]).split(":")[1]


def test_a_rejoin_of_one_project_leaves_the_others_alone(process: ApiProcess, own: Operator) -> None:
    mine, other = own.agent(server="s"), Operator(process.url, project=uuid.uuid4().hex).agent(server="s")
    revoked = own.agent(server="gone")
    own.call("DELETE", f"/v1/agents/{revoked.agent_id}")
    done = manage(process, "agent", "rejoin", "--project", project_of(own), "--join-ttl", "60")
    assert [json.loads(line)["agent_id"] for line in done.stdout.splitlines()] == [mine.agent_id]
    assert done.stderr.endswith("1 agents have to join again\n")
    assert (mine.claim().status_code, other.claim().status_code) == (401, 204)
    assert revoked.claim().status_code == 410
    assert manage(process, "agent", "rejoin", "--project", "unknown").stdout == ""


@pytest.mark.parametrize(
    "words", [[], ["db"], ["db", "sync", "--pre", "--post"], ["db", "purge", "--older-than", "-1"], ["agent", "rejoin"]]
)
def test_what_is_not_understood_ends_with_status_2(words: list[str], tmp_path: Path) -> None:
    api = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite")
    assert "usage: heat-workflow-manage" in manage(api, *words, status=2).stderr


def test_what_cannot_be_done_is_said_in_one_line_without_secrets(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path, "postgresql+psycopg://u:secret@127.0.0.1:1/x")
    for words in (["db", "sync"], ["db", "version"], ["session", "revoke-all"]):
        said = manage(api, *words, status=1).stderr.splitlines()
        assert said[-1].startswith("heat-workflow-manage: the database cannot be used: ")
        assert "secret" not in "".join(said)
        assert not any("Traceback" in line for line in said)
    missing = [sys.executable, "-m", "heat_workflow.cmd.manage", "--config-file", str(tmp_path / "none"), "db", "sync"]
    done = subprocess.run(missing, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "none" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
