# SPDX-License-Identifier: Apache-2.0
"""Answers, operator side: what each good answer holds, for readers and for the OpenAPI document; tests hold it true."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from heat_workflow.model import AgentState, TaskState, WorkflowState

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="ISO 8601 in UTC")]
Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Seconds = float
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Values = dict[str, Any]


class Shown(pydantic.BaseModel):
    """An answer: nothing in it that is not listed here."""

    model_config = pydantic.ConfigDict(extra="forbid")


class Link(Shown):
    rel: str
    href: str


class Version(Shown):
    id: str
    status: Literal["CURRENT", "SUPPORTED", "DEPRECATED"]
    links: list[Link]


class Versions(Shown):
    versions: list[Version]


class Health(Shown):
    """The process answers and its store does."""

    status: Literal["ok"]


class OpenApi(pydantic.BaseModel):
    """An OpenAPI document."""

    openapi: str
    info: Values
    paths: Values
    components: Values


class Workflow(Shown):
    """A workflow as it stands."""

    id: Id
    name: str
    tags: list[str]
    state: WorkflowState
    sealed: bool
    on_failure: Literal["stop", "undo"]
    created_at: Moment
    finished_at: Moment | None
    counts: dict[TaskState, int] = Field(
        description="How many tasks are in each state; states without any are left out"
    )


class Workflows(Shown):
    workflows: list[Workflow]
    next_marker: Id | None = Field(description="Where the next page starts; null on the last one")


class Task(Shown):
    """A task as it stands: what was asked for, and what became of it. Hidden values are shown as ``******``."""

    id: Id
    workflow_id: Id
    name: str
    definition: Values | None = Field(None, description="Left out in lists")
    input_values: Values
    hidden_inputs: list[str]
    hidden_outputs: list[str]
    environment_inputs: list[str]
    requires: list[str]
    heat: Values | None
    capabilities: list[str]
    server: str | None
    batch: Values | None = None
    fanout: str | None = Field(description="Of a member of a fan-out: the fan-out's name")
    action: str
    priority: int
    timeout: Seconds | None
    pickup_timeout: Seconds | None
    deadline: Seconds | None
    max_attempts: int
    retry_delay: Seconds
    run_as: str | None
    on_interrupt: Literal["fail", "rerun", "resume"]
    undo: Values | None
    concurrency_key: str | None
    state: TaskState
    status_reason: str
    outputs: Values = Field(description="Of the latest attempt")
    deploy_stdout: str | None
    deploy_stderr: str | None
    deploy_status_code: int | None
    attempt: int = Field(description="How often it was handed out; 0 before the first time")
    agent_id: Id | None = Field(description="Who has it, or had it last")
    waiting_for: str | None = Field(description="In words, what holds a task that is not running")
    detached: bool = Field(description="Its owner has given it up")
    confirmed: bool | None = Field(description="Of a cancelled task: whether its agent confirmed the end of the hook")
    undo_of: Id | None
    created_at: Moment
    ready_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None


class Tasks(Shown):
    tasks: list[Task]
    next_marker: Id | None


class TaskInBrief(Shown):
    """One of many tasks: which it is and how it stands."""

    id: Id
    workflow_id: Id
    name: str
    fanout: str | None
    server: str | None
    action: str
    state: TaskState
    attempt: int
    agent_id: Id | None
    detached: bool = Field(description="Its owner has given it up")
    confirmed: bool | None = Field(description="Of a cancelled task: whether its agent confirmed the end of the hook")
    undo_of: Id | None
    created_at: Moment


class AddedTasks(Shown):
    """The tasks of one request, in its order; a fan-out gives one per server. What was sent is not sent back."""

    tasks: list[TaskInBrief]


class Added(pydantic.RootModel[Task | AddedTasks]):
    """The task, or the tasks if several were asked for."""


class Attempt(Shown):
    """One lease and what came of it."""

    attempt: int
    agent_id: Id
    claimed_at: Moment
    finished_at: Moment | None
    result: str | None = Field(description="succeeded, failed, timed_out, cancelled, or lost on the way to the agent")
    reason: str
    deploy_status_code: int | None
    deploy_stdout: str
    deploy_stderr: str
    outputs: Values


class LateReport(Shown):
    """A report that was refused: another outcome is recorded, or its attempt is over."""

    at: Moment
    agent_id: Id
    attempt: int
    claim_id: Id
    status: TaskState
    deploy_status_code: int | None
    reason: str
    outputs: list[str] = Field(description="The names of the first of them")
    digest: str = Field(description="SHA-256 of the whole report")


class Attempts(Shown):
    attempts: list[Attempt]
    late_reports: list[LateReport] = Field(description="The first 20 of them, on the first page")
    next_marker: int | None = Field(description="Where the next page starts; null on the last one")


class WrittenChunk(Shown):
    n: int
    stream: Literal["stdout", "stderr"]
    text: str


class Log(Shown):
    attempt: int
    chunks: list[WrittenChunk]


class Event(Shown):
    """One line of a workflow's history; ``seq`` has no gaps."""

    seq: int
    at: Moment
    type: str
    task_id: Id | None
    body: Values


class Events(Shown):
    events: list[Event]
    last: int = Field(description="Where to go on: ``after`` of the next request")


class GraphNode(Shown):
    id: Id
    name: str
    state: TaskState
    server: str | None


class GraphEdge(Shown):
    source: Id = Field(alias="from")
    to: Id
    how: str = Field(description="requires (enforced), or how a Heat template says it (told)")


class Graph(Shown):
    nodes: list[GraphNode]
    edges: list[GraphEdge]


class Agent(Shown):
    """An agent as it stands."""

    id: Id
    name: str
    state: AgentState
    draining: bool
    capabilities: list[str]
    server: str | None
    heat: Values | None
    version: str | None
    os: Any
    inventory: Values
    created_at: Moment
    enrolled_at: Moment | None
    last_seen_at: Moment | None
    join_expires_at: Moment | None
    running_tasks: list[Id]


class Agents(Shown):
    agents: list[Agent]
    next_marker: Id | None


class Registration(Agent):
    """An agent with its join token."""

    join_token: str | None = Field(description="Shown here and nowhere else; null once it was used")
    agent_sha256: Digest | None = Field(description="The release that new machines get; null before there is one")


class AgentEvent(Shown):
    """Something about an agent's identity that its owner may have to know."""

    seq: int
    at: Moment
    type: str
    body: Values


class AgentEvents(Shown):
    events: list[AgentEvent]
    last: int
