# SPDX-License-Identifier: Apache-2.0
"""Answers, agent side: what each good answer to a guest holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heat_workflow.api.answers import Id, Seconds, Shown, Values
from heat_workflow.model import AgentState, TaskState


class Enrolled(Shown):
    agent_id: Id
    state: AgentState


class Session(Shown):
    """What an agent is to live by. Times are seconds."""

    agent_id: Id
    server: str | None
    lease: Seconds
    heartbeat_interval: Seconds
    max_wait: Seconds
    rotate_after: Seconds
    rotate: bool
    draining: bool


class ClaimedTask(Shown):
    """A task as the holder of its lease gets it: the one place where hidden inputs are in clear."""

    id: Id
    workflow_id: Id
    name: str
    action: str
    attempt: int
    claim_id: Id
    lease: Seconds
    timeout: Seconds | None
    deadline_in: Seconds | None
    definition: Values
    input_values: Values
    hidden_inputs: list[str]
    hidden_outputs: list[str]
    environment_inputs: list[str]
    run_as: str | None
    on_interrupt: Literal["fail", "rerun", "resume"]
    server: str | None
    heat: Values | None


class ListedResult(Shown):
    task_id: Id
    status: Literal[200, 404, 409, 422]
    detail: str


class Claimed(Shown):
    task: ClaimedTask | None
    reports: list[ListedResult]


class Reported(Shown):
    state: TaskState
    task: ClaimedTask | None = Field(description="The next one, if the report carried a claim")


class Heartbeat(Shown):
    lease: Seconds
    cancel: bool
    grace: Seconds = Field(description="Between SIGTERM and SIGKILL")


class LogTaken(Shown):
    next: int = Field(description="The number of the chunk to send next")


class Nothing(Shown):
    """An empty object: done."""
