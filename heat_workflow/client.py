# SPDX-License-Identifier: Apache-2.0
"""Client: the operator side of the tasks API as Python calls, one method per endpoint."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import cast

from heat_workflow.shapes import Agent, AgentBody, Json, Registration, Task, TaskBody, Workflow, WorkflowBody
from heat_workflow.wire import SERVICE_TYPE, Wire, path_of

__all__ = ["SERVICE_TYPE", "Client", "stack_workflow_id"]

_STACKS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:openstack:heat-workflow:stacks")


def stack_workflow_id(root_stack_id: str) -> str:
    """The id of the workflow that holds the tasks of a root stack and of all stacks nested in it."""
    return str(uuid.uuid5(_STACKS, root_stack_id))


class Client(Wire):
    """Talks to the tasks API as the project of the session's token.

    Every method raises the family of ``heat_workflow.errors`` that the API answered with, and ``Unavailable`` when
    the API cannot be reached; PUT, GET and DELETE may then simply be repeated. Bodies are never logged: they hold
    inputs, outputs and join tokens. The CA to trust is the session's.
    """

    # -- the service itself ------------------------------------------------------------------------------------

    def get_versions(self) -> dict[str, Json]:
        """What the API is and which versions it speaks."""
        return cast("dict[str, Json]", self._call("GET", "/"))

    def get_health(self) -> dict[str, Json]:
        """Whether the API and its store work; Unavailable if not."""
        return cast("dict[str, Json]", self._call("GET", "/healthz"))

    def get_openapi(self) -> dict[str, Json]:
        """The wire contract."""
        return cast("dict[str, Json]", self._call("GET", "/v1/openapi.json"))

    # -- workflows ---------------------------------------------------------------------------------------------

    def post_workflow(self, body: WorkflowBody) -> Workflow:
        """A new workflow under an id that the API chooses; twice makes two."""
        return cast(Workflow, self._call("POST", "/v1/workflows", body))

    def put_workflow(self, workflow_id: str, body: WorkflowBody) -> Workflow:
        """The workflow under the caller's id; the same body may be repeated, another is a Conflict."""
        return cast(Workflow, self._call("PUT", path_of("workflows", workflow_id), body))

    def list_workflows(self, **filters: str | int) -> Iterator[Workflow]:
        """The project's workflows, page by page; filters: state, tag, name, limit (of a page)."""
        return cast("Iterator[Workflow]", self._pages(path_of("workflows"), "workflows", filters))

    def get_workflow(self, workflow_id: str, *, wait: float = 0) -> Workflow:
        """The workflow as it stands, or once it is finished if that is sooner than ``wait`` seconds (50 at most)."""
        return cast(Workflow, self._call("GET", path_of("workflows", workflow_id), wait=wait))

    def patch_workflow(self, workflow_id: str, changes: WorkflowBody) -> Workflow:
        """Rename it, replace its tags."""
        return cast(Workflow, self._call("PATCH", path_of("workflows", workflow_id), changes))

    def delete_workflow(self, workflow_id: str) -> None:
        """Cancel what runs, then remove it."""
        self._call("DELETE", path_of("workflows", workflow_id))

    def pause_workflow(self, workflow_id: str) -> Workflow:
        """Hand out nothing new; what runs goes on."""
        return cast(Workflow, self._call("POST", path_of("workflows", workflow_id, "pause")))

    def resume_workflow(self, workflow_id: str) -> Workflow:
        """Hand out work again."""
        return cast(Workflow, self._call("POST", path_of("workflows", workflow_id, "resume")))

    def cancel_workflow(self, workflow_id: str) -> Workflow:
        """Stop every task that is not finished."""
        return cast(Workflow, self._call("POST", path_of("workflows", workflow_id, "cancel")))

    def rerun_workflow(self, workflow_id: str) -> Workflow:
        """Run the failed tasks, and what depends on them, again."""
        return cast(Workflow, self._call("POST", path_of("workflows", workflow_id, "rerun")))

    def undo_workflow(self, workflow_id: str) -> Workflow:
        """Take back what succeeded, in reverse order."""
        return cast(Workflow, self._call("POST", path_of("workflows", workflow_id, "undo")))

    def get_graph(self, workflow_id: str) -> dict[str, Json]:
        """Nodes and edges with their states."""
        return cast("dict[str, Json]", self._call("GET", path_of("workflows", workflow_id, "graph")))

    def list_events(self, workflow_id: str, *, after: int = 0, wait: float = 0) -> list[dict[str, Json]]:
        """The events after number ``after``, in order and without gaps; waits for the first if there is none."""
        answer = self._call("GET", path_of("workflows", workflow_id, "events"), params={"after": after}, wait=wait)
        return cast("list[dict[str, Json]]", answer["events"])

    # -- tasks -------------------------------------------------------------------------------------------------

    def post_tasks(self, workflow_id: str, tasks: list[TaskBody], *, amend: bool = False) -> list[Task]:
        """Add tasks, all or none, also while the workflow runs; with ``amend`` to a sealed one too."""
        body = {"tasks": tasks, "amend": True} if amend else {"tasks": tasks}
        answer = self._call("POST", path_of("workflows", workflow_id, "tasks"), body)
        return cast("list[Task]", answer["tasks"])

    def act_on_tasks(self, workflow_id: str, action: str, ids: Sequence[str]) -> list[Task]:
        """Cancel, detach, remove or undo many at once, all or none; for undo, the tasks that undo them.

        ``remove`` detaches a task, and its name is free: it is no member of its fan-out any more. May be repeated.
        """
        path = path_of("workflows", workflow_id, "tasks", "actions")
        return cast("list[Task]", self._call("POST", path, {"action": action, "ids": list(ids)})["tasks"])

    def put_task(self, workflow_id: str, task_id: str, body: TaskBody) -> Task:
        """The task under the caller's id; the same body may be repeated, another is a Conflict."""
        return cast(Task, self._call("PUT", path_of("workflows", workflow_id, "tasks", task_id), body))

    def list_tasks(self, workflow_id: str, **filters: str | int) -> Iterator[Task]:
        """The workflow's tasks, page by page; filters as the API has them, and limit (of a page)."""
        return cast("Iterator[Task]", self._pages(path_of("workflows", workflow_id, "tasks"), "tasks", filters))

    def list_fanout(self, workflow_id: str, name: str, *, wait: float = 0) -> Iterator[Task]:
        """Every attached run of a fan-out's members, or once none is unfinished if that is sooner than ``wait``."""
        path = path_of("workflows", workflow_id, "tasks")
        return cast("Iterator[Task]", self._pages(path, "tasks", {"fanout": name}, wait))

    def get_task(self, workflow_id: str, task_id: str, *, wait: float = 0, reveal: bool = False) -> Task:
        """The task as it stands, or once it is finished if that is sooner than ``wait`` seconds (50 at most).

        ``reveal`` asks for the values of hidden outputs, which the policy may refuse.
        """
        params = {"reveal": "true"} if reveal else None
        path = path_of("workflows", workflow_id, "tasks", task_id)
        return cast(Task, self._call("GET", path, params=params, wait=wait))

    def patch_task(self, workflow_id: str, task_id: str, changes: TaskBody) -> Task:
        """Change what has not been claimed yet."""
        return cast(Task, self._call("PATCH", path_of("workflows", workflow_id, "tasks", task_id), changes))

    def delete_task(self, workflow_id: str, task_id: str) -> None:
        """Cancel it if it is not finished, and detach it from its owner; history stays. May be repeated."""
        self._call("DELETE", path_of("workflows", workflow_id, "tasks", task_id))

    def cancel_task(self, workflow_id: str, task_id: str) -> Task:
        """Ask for its end; a guest that runs it hears so at its next heartbeat."""
        return cast(Task, self._call("POST", path_of("workflows", workflow_id, "tasks", task_id, "cancel")))

    def rerun_task(self, workflow_id: str, task_id: str) -> Task:
        """A new attempt of a task that failed, timed out, was cancelled or skipped."""
        return cast(Task, self._call("POST", path_of("workflows", workflow_id, "tasks", task_id, "rerun")))

    def undo_task(self, workflow_id: str, task_id: str) -> Task:
        """The new task that takes this one back with its own inputs and outputs."""
        return cast(Task, self._call("POST", path_of("workflows", workflow_id, "tasks", task_id, "undo")))

    def list_attempts(self, workflow_id: str, task_id: str) -> list[dict[str, Json]]:
        """Every attempt with its times, agent and result."""
        path = path_of("workflows", workflow_id, "tasks", task_id, "attempts")
        return cast("list[dict[str, Json]]", list(self._pages(path, "attempts", {})))

    def get_log(self, workflow_id: str, task_id: str) -> str:
        """What the task has written so far."""
        return cast(str, self._send("GET", path_of("workflows", workflow_id, "tasks", task_id, "log")).text)

    # -- agents ------------------------------------------------------------------------------------------------

    def put_agent(self, agent_id: str, body: AgentBody) -> Registration:
        """Register an agent; repeated while nobody has enrolled it makes a new join token and kills the old one."""
        return cast(Registration, self._call("PUT", path_of("agents", agent_id), body))

    def list_agents(self, **filters: str | int) -> Iterator[Agent]:
        """The project's agents, page by page; filters: state, server, version, seen_before, all_projects (admin)."""
        return cast("Iterator[Agent]", self._pages(path_of("agents"), "agents", filters))

    def get_agent(self, agent_id: str) -> Agent:
        """The agent as it stands: state, last seen, running tasks."""
        return cast(Agent, self._call("GET", path_of("agents", agent_id)))

    def patch_agent(self, agent_id: str, changes: AgentBody) -> Agent:
        """Rename it, grant or take capabilities, bind it to a server."""
        return cast(Agent, self._call("PATCH", path_of("agents", agent_id), changes))

    def delete_agent(self, agent_id: str) -> None:
        """Revoke it: from the next request on its credential is good for nothing. May be repeated."""
        self._call("DELETE", path_of("agents", agent_id))

    def list_agent_events(self, agent_id: str) -> list[dict[str, Json]]:
        """What happened to its identity."""
        return cast("list[dict[str, Json]]", self._call("GET", path_of("agents", agent_id, "events"))["events"])

    def rejoin_agent(self, agent_id: str, join_ttl: float | None = None) -> Registration:
        """A new join token for a new disk; the old credential is revoked, ``suspect`` is cleared."""
        body = None if join_ttl is None else {"join_ttl": join_ttl}
        return cast(Registration, self._call("POST", path_of("agents", agent_id, "rejoin"), body))

    def quarantine_agent(self, agent_id: str) -> Agent:
        """Hand it nothing and leave the guest's evidence in place."""
        return cast(Agent, self._call("POST", path_of("agents", agent_id, "quarantine")))

    def drain_agent(self, agent_id: str) -> Agent:
        """Let it finish what it has and hand it nothing new."""
        return cast(Agent, self._call("POST", path_of("agents", agent_id, "drain")))

    def undrain_agent(self, agent_id: str) -> Agent:
        """Hand it work again."""
        return cast(Agent, self._call("POST", path_of("agents", agent_id, "undrain")))
