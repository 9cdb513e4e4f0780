# SPDX-License-Identifier: Apache-2.0
"""Shapes: what the operator API takes and gives, as the client and the Heat resources name it."""

from __future__ import annotations

from typing import TypedDict, Union

Json = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]


class Definition(TypedDict, total=False):
    """What a SoftwareConfig holds."""

    group: str
    config: Json
    options: dict[str, Json]
    inputs: list[dict[str, Json]]
    outputs: list[dict[str, Json]]


Edge = TypedDict("Edge", {"from": str, "how": str})  # how: "depends_on", "get_attr: db.url", "get_resource: db"


class HeatOrigin(TypedDict, total=False):
    """Where in Heat a task or an agent comes from; told, never enforced."""

    stack_id: str
    stack_name: str
    resource: str
    action: str
    edges: list[Edge]
    digest: str


class WorkflowRef(TypedDict, total=False):
    """The workflow that a PUT of a task brings into being if it is not there."""

    id: str
    name: str


class TaskBody(TypedDict, total=False):
    """A task as asked for. Times are seconds; ``deadline`` counts from now."""

    id: str
    name: str
    workflow: WorkflowRef
    definition: Definition
    input_values: dict[str, Json]
    hidden_inputs: list[str]
    hidden_outputs: list[str]
    environment_inputs: list[str]
    requires: list[str]
    heat: HeatOrigin
    capabilities: list[str]
    server: str
    servers: dict[str, str]
    batch: dict[str, float]
    action: str
    priority: int
    timeout: float
    pickup_timeout: float
    deadline: float
    max_attempts: int
    retry_delay: float
    run_as: str
    on_interrupt: str
    undo: Definition
    concurrency_key: str


class Task(TaskBody, total=False):
    """A task as it stands. ``waiting_for`` says in words what holds it; moments are ISO 8601 in UTC."""

    workflow_id: str
    fanout: str | None
    undo_of: str | None
    state: str
    status_reason: str
    outputs: dict[str, Json]
    deploy_stdout: str
    deploy_stderr: str
    deploy_status_code: int | None
    attempt: int
    agent_id: str | None
    waiting_for: str | None
    confirmed: bool | None
    detached: bool
    created_at: str
    ready_at: str | None
    started_at: str | None
    finished_at: str | None


class WorkflowBody(TypedDict, total=False):
    """A workflow as asked for; ``tasks`` given inline are added all or none."""

    id: str
    name: str
    tags: list[str]
    sealed: bool
    on_failure: str
    tasks: list[TaskBody]


class Workflow(WorkflowBody, total=False):
    """A workflow as it stands, with the number of its tasks in each state."""

    state: str
    counts: dict[str, int]
    created_at: str
    finished_at: str | None


class AgentBody(TypedDict, total=False):
    """An agent as registered. ``server`` X grants the capability ``server=X``; ``join_ttl`` is in seconds."""

    name: str
    capabilities: list[str]
    server: str | None
    join_ttl: float | None
    heat: HeatOrigin | None


class Agent(TypedDict, total=False):
    """An agent as it stands: pending, active, suspect or revoked."""

    id: str
    name: str
    state: str
    capabilities: list[str]
    server: str | None
    heat: HeatOrigin | None
    version: str | None
    os: str | None
    inventory: dict[str, Json]
    created_at: str
    enrolled_at: str | None
    last_seen_at: str | None
    join_expires_at: str | None
    running_tasks: list[str]


class Registration(Agent, total=False):
    """The answer to a registration: the only place where a join token is ever shown; None once it was used.

    ``agent_sha256`` is the release of the agent that the machine shall have; None when the API has none.
    """

    join_token: str | None
    agent_sha256: str | None


class Join(TypedDict):
    """What a machine needs to join as an agent; ``ca_pem`` None: its own trust store knows the API."""

    api_url: str
    agent_id: str
    join_token: str
    ca_pem: str | None
