# SPDX-License-Identifier: Apache-2.0
"""GET /metrics: what an operator's monitoring sees, on every database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from heat_workflow.store import schema
from tests.harness.callers import Operator, SimulatedAgent, new_id
from tests.harness.servers import ApiProcess

Numbers = dict[tuple[str, ...], float]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiProcess]:
    """An API on an empty database of its own: its numbers are the test's."""
    url = f"sqlite:///{tmp_path}/store.sqlite"
    if request.param != "sqlite":
        url = request.getfixturevalue(request.param).new_database(f"metrics_{uuid.uuid4().hex[:8]}")
    schema.sync(url)
    process = ApiProcess(tmp_path, url)
    process.start()
    yield process
    process.stop()


def scraped(api: ApiProcess) -> Numbers:
    """Every sample as (name, label values...) -> value."""
    answer = requests.get(f"{api.url}/metrics", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_tasks_and_agents_are_counted_by_state(alone: ApiProcess) -> None:
    operator = Operator(alone.url)
    empty = scraped(alone)
    assert {key[1]: value for key, value in empty.items() if key[0] == "heat_workflow_tasks"} == dict.fromkeys(
        ["waiting", "ready", "leased", "stalled", "cancelling"], 0
    )
    assert empty["heat_workflow_oldest_ready_task_age_seconds",] == 0

    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s")
    operator.task(workflow_id, "b", server="s")
    operator.task(workflow_id, "c", requires=["a", "b"])
    agent = operator.agent(server="s")
    agent.hello(version="1.2.3")
    operator.register(server="never")
    agent.report(agent.take())
    agent.take()

    seen = scraped(alone)
    assert seen["heat_workflow_tasks", "waiting"] == 1
    assert seen["heat_workflow_tasks", "ready"] == 0
    assert seen["heat_workflow_tasks", "leased"] == 1
    assert seen["heat_workflow_tasks_finished_total", "succeeded"] == 1
    assert seen["heat_workflow_agents", "active", "1.2.3"] == 1
    assert seen["heat_workflow_agents", "pending", ""] == 1

    operator.call("DELETE", f"/v1/agents/{agent.agent_id}")
    again = scraped(alone)
    assert ("heat_workflow_agents", "active", "1.2.3") not in again
    assert again["heat_workflow_tasks_finished_total", "succeeded"] == 1
    assert again["heat_workflow_tasks_finished_total", "failed"] == 1


def test_the_age_of_the_oldest_ready_task_grows_until_it_is_taken(alone: ApiProcess) -> None:
    operator = Operator(alone.url)
    task = operator.task(operator.workflow(), server="s")
    operator.show(task, wait=1)
    assert 1 <= scraped(alone)["heat_workflow_oldest_ready_task_age_seconds",] < 30
    operator.agent(server="s").take()
    assert scraped(alone)["heat_workflow_oldest_ready_task_age_seconds",] == 0


def test_refusals_are_counted_by_status_and_reason(alone: ApiProcess) -> None:
    operator = Operator(alone.url)
    agent = operator.agent(server="s")
    operator.call("GET", f"/v1/workflows/{new_id()}")
    operator.call("GET", "/nowhere")
    operator.call("PATCH", "/healthz")
    operator.call("POST", "/v1/workflows", data=b"{", headers={"Content-Type": "application/json"})
    requests.get(f"{alone.url}/v1/workflows", timeout=10)
    agent.report({"id": new_id(), "attempt": 1, "claim_id": new_id()})
    requests.get(f"{alone.url}/" + "x" * 5000, timeout=10)
    seen = {key[1:]: value for key, value in scraped(alone).items() if key[0] == "heat_workflow_refusals_total"}
    assert seen == {
        ("workflow-not-found", "404"): 1,
        ("not-found", "404"): 1,
        ("method-not-allowed", "405"): 1,
        ("malformed", "400"): 1,
        ("unauthenticated", "401"): 1,
        ("task-not-found", "404"): 1,
        ("url-too-long", "414"): 1,
    }


def test_s23_metrics_hold_no_names_ids_or_secrets_and_guests_cannot_fill_them(alone: ApiProcess) -> None:
    operator = Operator(alone.url, project="canary-project")
    operator.task(operator.workflow(name="canary-workflow"), "canary-task", server="canary-server")
    agent = operator.agent(server="canary-server", name="canary-agent")
    for version in (agent.secret, agent.agent_id, 'x"} 1\nfake{a="b', "é", "1" * 33):
        agent.hello(version=version)
        text = requests.get(f"{alone.url}/metrics", timeout=10).text
        assert 'version="other"' in text
        assert "fake" not in text
        for secret in ("canary", agent.secret, agent.agent_id, agent.join_token):
            assert secret not in text
    for n in range(30):
        other = SimulatedAgent(alone.url, *operator.register(server=f"s{n}"))
        other.enroll()
        other.hello(version=f"9.{n}")
    versions = {key[2] for key in scraped(alone) if key[0] == "heat_workflow_agents"}
    assert len(versions) <= 22


def test_only_the_operator_half_shows_metrics(tmp_path: Path) -> None:
    process = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite", {"serve": "guest"})
    process.start()
    try:
        assert requests.get(f"{process.url}/metrics", timeout=10).status_code == 404
    finally:
        process.stop()
