# SPDX-License-Identifier: Apache-2.0
"""The Python client against the real API: every method, so that none can be wrong unseen."""

from __future__ import annotations

import ast
import inspect
import uuid
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1 import session, token_endpoint

from heat_workflow import errors
from heat_workflow.client import Client
from heat_workflow.shapes import Task, TaskBody
from tests.harness.callers import DEFINITION, SimulatedAgent, new_id
from tests.harness.servers import ApiProcess

ROOT = Path(__file__).resolve().parents[2]


def client_of(api: ApiProcess, project: str, roles: str = "member,reader") -> Client:
    return Client(session.Session(auth=token_endpoint.Token(api.url, f"u:{project}:{roles}")))


@pytest.fixture
def project() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def client(api: ApiProcess, project: str) -> Client:
    return client_of(api, project)


def agent_of(client: Client, api: ApiProcess, server: str) -> SimulatedAgent:
    agent_id = new_id()
    registered = client.put_agent(agent_id, {"name": "agent", "server": server})
    agent = SimulatedAgent(api.url, agent_id, str(registered["join_token"]))
    assert (agent.enroll().status_code, agent.hello().status_code) == (201, 200)
    return agent


def body(name: str, **fields: object) -> TaskBody:
    return {"name": name, "definition": DEFINITION, "server": "s", **fields}  # type: ignore[typeddict-item]


def added(client: Client, workflow_id: str, name: str, **fields: object) -> Task:
    [task] = client.post_tasks(workflow_id, [body(name, **fields)])
    return task


def test_the_service_says_what_it_is(client: Client) -> None:
    assert client.get_versions()["versions"][0]["id"] == "v1.0"  # type: ignore[index,call-overload]
    assert client.get_health()["status"] in ("ok", "degraded")
    assert "/v1/workflows" in client.get_openapi()["paths"]  # type: ignore[operator]


def test_workflows(client: Client, api: ApiProcess) -> None:
    made = client.post_workflow({"name": "w", "tags": ["a"]})
    put = client.put_workflow(new_id(), {"name": "w2"})
    assert {workflow["id"] for workflow in client.list_workflows(limit=1)} == {made["id"], put["id"]}
    assert [workflow["id"] for workflow in client.list_workflows(tag="a")] == [made["id"]]
    assert client.patch_workflow(made["id"], {"name": "renamed"})["name"] == "renamed"
    assert client.pause_workflow(made["id"])["state"] == "paused"
    assert client.resume_workflow(made["id"])["state"] == "active"
    agent = agent_of(client, api, "s")
    task = added(client, made["id"], "t", undo=DEFINITION)
    agent.report(agent.take(), "failed")
    client.rerun_workflow(made["id"])
    agent.report(agent.take())
    assert client.undo_workflow(made["id"])["state"] == "undoing"
    agent.report(agent.take())
    assert client.get_task(made["id"], task["id"], wait=5)["state"] == "undone"
    graph: Any = client.get_graph(made["id"])
    assert graph["nodes"][0]["name"] == "t"
    events = client.list_events(made["id"])
    assert client.list_events(made["id"], after=2, wait=1) == events[2:]
    assert client.cancel_workflow(made["id"])["id"] == made["id"]
    client.delete_workflow(made["id"])
    with pytest.raises(errors.NotFound):
        client.get_workflow(made["id"], wait=1)


def test_what_all_projects_have_is_for_an_admin(client: Client, api: ApiProcess, project: str) -> None:
    workflow_id, agent = client.post_workflow({"name": "w"})["id"], agent_of(client, api, "s")
    admin = client_of(api, "operators", "admin,member,reader")
    workflows = {one["id"]: one["project_id"] for one in admin.list_workflows(all_projects="true", state="active")}
    agents = {one["id"]: one["project_id"] for one in admin.list_agents(all_projects="true", limit=1)}
    assert (workflows[workflow_id], agents[agent.agent_id]) == (project, project)
    assert all("project_id" not in one for one in [*client.list_workflows(), *client.list_agents()])
    assert list(admin.list_workflows()) == []
    for listed in (client.list_workflows, client.list_agents):
        with pytest.raises(errors.Forbidden, match="get_all_projects does not allow this"):
            list(listed(all_projects="true"))


def test_tasks(client: Client, api: ApiProcess) -> None:
    workflow_id = client.post_workflow({"name": "w"})["id"]
    task_id = new_id()
    assert client.put_task(workflow_id, task_id, body("a", undo=DEFINITION))["id"] == task_id
    assert client.patch_task(workflow_id, task_id, {"priority": 3})["priority"] == 3
    agent = agent_of(client, api, "s")
    agent.report(agent.take(), "failed", deploy_stdout="first\n")
    client.rerun_task(workflow_id, task_id)
    agent.report(agent.take(), deploy_stdout="hello\n", deploy_stderr="world\n")
    assert client.get_log(workflow_id, task_id) == "hello\nworld\n"
    assert client.get_log(workflow_id, task_id, attempt=1) == "first\n"
    assert [attempt["result"] for attempt in client.list_attempts(workflow_id, task_id)] == ["failed", "succeeded"]
    undo = client.undo_task(workflow_id, task_id)
    assert client.cancel_task(workflow_id, undo["id"])["state"] == "cancelled"
    other = added(client, workflow_id, "b")
    assert [task["state"] for task in client.act_on_tasks(workflow_id, "cancel", [other["id"]])] == ["cancelled"]
    client.post_tasks(workflow_id, [body("web", server=None, servers={"n1": "1", "n2": "2"})])
    assert [task["name"] for task in client.list_fanout(workflow_id, "web", wait=0.1)] == ["web/n1", "web/n2"]
    assert len(list(client.list_tasks(workflow_id, limit=2))) == 5
    client.delete_task(workflow_id, task_id)
    assert client.get_task(workflow_id, task_id)["detached"] is True


def test_agents(client: Client, api: ApiProcess) -> None:
    agent = agent_of(client, api, "s")
    agent_id = agent.agent_id
    assert [one["id"] for one in client.list_agents(server="s")] == [agent_id]
    assert client.patch_agent(agent_id, {"name": "renamed"})["name"] == "renamed"
    assert client.get_agent(agent_id)["state"] == "active"
    assert client.drain_agent(agent_id)["draining"] is True  # type: ignore[typeddict-item]
    assert client.undrain_agent(agent_id)["draining"] is False  # type: ignore[typeddict-item]
    assert client.quarantine_agent(agent_id)["state"] == "suspect"
    assert str(client.rejoin_agent(agent_id, join_ttl=60)["join_token"]).startswith("hwj1.")
    assert [event["type"] for event in client.list_agent_events(agent_id)][-1] == "rejoin"
    client.delete_agent(agent_id)
    with pytest.raises(errors.NotFound):
        client.get_agent(agent_id)


def test_each_method_of_the_client_is_called_here() -> None:
    methods = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(Path(__file__).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert len(methods) > 30
    assert methods <= called
