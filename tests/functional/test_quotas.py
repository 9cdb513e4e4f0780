# SPDX-License-Identifier: Apache-2.0
"""Quotas: a project keeps as much as it may, its work goes on, and nobody else notices."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.callers import DEFINITION, Operator, new_id
from tests.harness.servers import ApiProcess


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    directory: Path = tmp_path_factory.mktemp("quota")
    api = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite")
    api.conf.write_text(api.conf.read_text() + "[quota]\nworkflows = 3\ntasks = 10\nbytes = 100000\n")
    api.start()
    yield api
    api.stop()


@pytest.fixture
def tenant(narrow: ApiProcess) -> Operator:
    return Operator(narrow.url, project=uuid.uuid4().hex)


def refusal(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def add(tenant: Operator, workflow_id: str, count: int, size: int = 0) -> requests.Response:
    definition = {**DEFINITION, "config": "x" * size}
    tasks = [{"name": new_id(), "definition": definition, "server": "s"} for _ in range(count)]
    return tenant.call("POST", f"/v1/workflows/{workflow_id}/tasks", json={"tasks": tasks})


def test_a_project_has_as_many_workflows_as_it_may(tenant: Operator, narrow: ApiProcess) -> None:
    made = [tenant.workflow() for _ in range(3)]
    refused = tenant.call("POST", "/v1/workflows", json={"name": "one more"})
    assert refusal(refused) == (429, "heat-workflow.quota")
    assert int(refused.headers["Retry-After"]) > 0
    assert "a project may keep 3 workflows" in refused.json()["errors"][0]["detail"]
    wanted = {"name": "t", "definition": DEFINITION, "workflow": {"id": new_id(), "name": "w"}}
    path = f"/v1/workflows/{wanted['workflow']['id']}/tasks/{new_id()}"  # type: ignore[index]
    assert refusal(tenant.call("PUT", path, json=wanted)) == (429, "heat-workflow.quota")
    assert len(tenant.call("GET", "/v1/workflows").json()["workflows"]) == 3
    Operator(narrow.url, project=uuid.uuid4().hex).workflow()
    assert tenant.call("DELETE", f"/v1/workflows/{made[0]}").status_code == 204
    tenant.workflow()


def test_tasks_are_counted_over_all_workflows_and_a_request_is_taken_whole_or_not(tenant: Operator) -> None:
    one, other = tenant.workflow(), tenant.workflow()
    assert add(tenant, one, 6).status_code == 201
    assert refusal(add(tenant, other, 5)) == (429, "heat-workflow.quota")
    assert refusal(add(tenant, other, 11)) == (413, "heat-workflow.quota"), "that can never fit"
    assert tenant.call("GET", f"/v1/workflows/{other}/tasks").json()["tasks"] == []
    assert add(tenant, other, 4).status_code == 201
    assert refusal(add(tenant, other, 1)) == (429, "heat-workflow.quota")


def test_a_request_repeated_at_the_limit_is_answered_as_before(tenant: Operator) -> None:
    workflow_id, task_id = tenant.workflow(), new_id()
    body = {"name": "t", "definition": DEFINITION, "server": "s"}
    path = f"/v1/workflows/{workflow_id}/tasks/{task_id}"
    assert tenant.call("PUT", path, json=body).status_code == 201
    assert add(tenant, workflow_id, 9).status_code == 201
    assert tenant.call("PUT", path, json=body).status_code == 200


def test_bytes_are_counted_and_no_outcome_is_refused_for_them(tenant: Operator) -> None:
    workflow_id = tenant.workflow()
    assert refusal(add(tenant, workflow_id, 1, 150_000)) == (413, "heat-workflow.quota")
    assert add(tenant, workflow_id, 1, 60_000).status_code == 201
    assert refusal(add(tenant, workflow_id, 1, 60_001)) == (429, "heat-workflow.quota")
    agent = tenant.agent(server="s")
    assert agent.report(agent.take(), deploy_stdout="y" * 60_000, outputs={"y": "z" * 60_000}).status_code == 200
    assert refusal(add(tenant, workflow_id, 1, 40_000)) == (429, "heat-workflow.quota"), "the outcome counts"
