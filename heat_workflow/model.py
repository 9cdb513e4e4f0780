# SPDX-License-Identifier: Apache-2.0
"""Model: what a workflow, a task and an agent are, and which moves between states are legal.

Pure: no I/O, no clock. Times are seconds since the epoch by the database's clock. What becomes of a task at each turn
is decided in lifecycle.py by this table of moves.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import NewType, TypeVar, Union

TaskId = NewType("TaskId", str)
WorkflowId = NewType("WorkflowId", str)
AgentId = NewType("AgentId", str)
ProjectId = NewType("ProjectId", str)
ClaimId = NewType("ClaimId", str)
Json = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]
Fact = TypeVar("Fact")

LEASE = 60.0  # seconds a claim or heartbeat is good for
HEARTBEAT_INTERVAL = 20.0  # three heartbeats fit into a lease, so one lost request is no stall
CANCEL_GRACE = 10.0  # seconds between SIGTERM and SIGKILL in the guest
REPORT_MARGIN = 30.0  # seconds the API waits past a run's timeout for the agent's own word
RETRY_DELAY_MOST = 3600.0  # cap of the exponential back-off between attempts


def changed(fact: Fact, **changes: object) -> Fact:
    """The fact with these fields changed: dataclasses.replace at a tenth of its cost.

    A task has some forty fields and moves thousands of times a second; our facts check nothing on their way in.
    """
    new = object.__new__(type(fact))
    fields = vars(new)
    fields.update(vars(fact))
    fields.update(changes)
    if len(fields) != len(vars(fact)):
        raise TypeError(f"{type(fact).__name__} has no field {', '.join(sorted(changes.keys() - vars(fact).keys()))}")
    return new


class TaskState(str, enum.Enum):
    """The states of contract's one table."""

    WAITING = "waiting"  # requirements unfinished, or the delay before a retry, or its batch's turn
    READY = "ready"  # may be claimed
    LEASED = "leased"  # an agent has it
    STALLED = "stalled"  # heartbeats missing; the same attempt may come back
    CANCELLING = "cancelling"  # cancel recorded, the agent has not confirmed
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"  # a requirement will never succeed
    UNDONE = "undone"  # was succeeded, its undo task succeeded


_S = TaskState
MOVES: Mapping[TaskState, frozenset[TaskState]] = {
    _S.WAITING: frozenset({_S.READY, _S.SKIPPED, _S.CANCELLED, _S.TIMED_OUT, _S.FAILED}),
    _S.READY: frozenset({_S.LEASED, _S.CANCELLED, _S.TIMED_OUT, _S.WAITING, _S.SKIPPED, _S.SUCCEEDED}),
    _S.LEASED: frozenset({_S.SUCCEEDED, _S.FAILED, _S.TIMED_OUT, _S.STALLED, _S.CANCELLING, _S.WAITING}),
    _S.STALLED: frozenset({_S.LEASED, _S.SUCCEEDED, _S.FAILED, _S.TIMED_OUT, _S.CANCELLING, _S.WAITING}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.SUCCEEDED, _S.FAILED}),
    _S.SUCCEEDED: frozenset({_S.UNDONE}),
    _S.FAILED: frozenset({_S.WAITING, _S.READY}),
    _S.CANCELLED: frozenset({_S.WAITING, _S.READY}),
    _S.TIMED_OUT: frozenset({_S.WAITING, _S.READY}),
    _S.SKIPPED: frozenset({_S.WAITING, _S.READY}),
    _S.UNDONE: frozenset(),
}
HELD = frozenset({_S.LEASED, _S.STALLED, _S.CANCELLING})  # an agent may be running it
UNFINISHED = frozenset({_S.WAITING, _S.READY}) | HELD
FINISHED = frozenset(_S) - UNFINISHED
RERUNNABLE = frozenset({_S.FAILED, _S.TIMED_OUT, _S.CANCELLED, _S.SKIPPED})


class WorkflowState(str, enum.Enum):
    """Open workflows live in the first four; sealed ones end in one of the last four."""

    ACTIVE = "active"
    PAUSED = "paused"  # nothing new is handed out
    CANCELLING = "cancelling"  # waits for agents to confirm
    UNDOING = "undoing"  # undo tasks are under way
    CLOSED = "closed"  # open workflow, every task detached by its owner: history
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNDONE = "undone"


WORKFLOW_FINISHED = frozenset(
    {
        WorkflowState.CLOSED,
        WorkflowState.SUCCEEDED,
        WorkflowState.FAILED,
        WorkflowState.CANCELLED,
        WorkflowState.UNDONE,
    }
)


WORKFLOW_HANDS_OUT = frozenset({WorkflowState.ACTIVE, WorkflowState.UNDOING})


class AgentState(str, enum.Enum):
    """Where an agent's identity stands."""

    PENDING = "pending"  # registered, its join token not used yet
    ACTIVE = "active"
    SUSPECT = "suspect"  # thief and owner cannot be told apart: nothing is handed out
    REVOKED = "revoked"  # tombstone; the id is never used again


@dataclasses.dataclass(frozen=True)
class Workflow:
    """A set of tasks with edges."""

    id: WorkflowId
    project_id: ProjectId
    name: str
    tags: Sequence[str]
    state: WorkflowState
    sealed: bool
    on_failure: str
    fingerprint: str
    event_seq: int
    created_at: float
    finished_at: float | None

    @property
    def may_end(self) -> bool:
        """Whether the end of a task can change its state: an open one that is active stays that."""
        return self.sealed or self.state in (WorkflowState.UNDOING, WorkflowState.CANCELLING)


TASK_ROW = 1024  # bytes that a task, its attempt and its events take besides what its caller said


@dataclasses.dataclass(frozen=True)
class Usage:
    """How much a project keeps, or a transaction adds. Bytes are of definitions, specs, outputs and logs."""

    workflows: int = 0
    tasks: int = 0
    bytes: int = 0
    agents: int = 0

    def __add__(self, other: Usage) -> Usage:
        both = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Usage(*(one + another for one, another in both))


@dataclasses.dataclass(frozen=True)
class NewTask:
    """What a caller asks for: contract's task fields, checked for shape but not yet against the workflow."""

    name: str
    definition: Mapping[str, Json]
    spec: Mapping[str, Json]
    id: TaskId | None = None
    requires: Sequence[str] = ()
    capabilities: Sequence[str] = ()
    server: str | None = None
    servers: Mapping[str, str] | None = None
    action: str = "CREATE"
    priority: int = 0
    max_attempts: int = 1
    deadline: float | None = None
    concurrency_key: str | None = None
    undo_of: TaskId | None = None
    batch: int | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """One piece of work: what was asked for (``spec``) and where it stands."""

    id: TaskId
    project_id: ProjectId
    workflow_id: WorkflowId
    seq: int
    name: str
    fanout: str | None
    holds_name: bool
    definition_id: str
    spec: Mapping[str, Json]
    capabilities: Sequence[str]
    route: str
    action: str
    priority: int
    fingerprint: str
    state: TaskState
    status_reason: str
    pending: int
    attempt: int
    attempts_left: int
    claim_id: ClaimId | None
    agent_id: AgentId | None
    detached: bool
    confirmed: bool | None
    undo_of: TaskId | None
    batch: int | None
    concurrency_key: str | None
    created_at: float
    ready_at: float | None
    started_at: float | None
    finished_at: float | None
    not_before: float | None
    lease_until: float | None
    cancel_until: float | None
    deadline_at: float | None
    due_at: float | None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    def number(self, field: str) -> float | None:
        """A duration of the spec in seconds, None where it was not given."""
        value = self.spec.get(field)
        return float(value) if isinstance(value, (int, float)) else None


@dataclasses.dataclass(frozen=True)
class Agent:
    """The process that pulls tasks, as the API knows it. Hashes are hex SHA-256 of secrets never stored."""

    id: AgentId
    project_id: ProjectId
    name: str
    server: str | None
    capabilities: Sequence[str]
    heat: Mapping[str, Json] | None
    state: AgentState
    draining: bool
    fingerprint: str
    join_hash: str | None
    join_expires_at: float | None
    join_used_at: float | None
    join_used_by: str | None
    cred_hash: str | None
    cred_gen: int
    cred_made_at: float | None
    next_hash: str | None
    prev_hash: str | None
    prev_until: float | None
    old_hashes: Sequence[str]
    nonce: str | None
    hw_uuid: str | None
    version: str | None
    inventory: Mapping[str, Json]
    polls_at: str | None
    created_at: float
    last_seen_at: float | None
    revoked_at: float | None

    @property
    def routes(self) -> list[str]:
        """Where this agent looks for work: under each capability, and where none is asked for."""
        return [*self.capabilities, ""]

    @property
    def may_take(self) -> bool:
        """Whether work is handed out to it."""
        return self.state is AgentState.ACTIVE and not self.draining


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One lease of a task and what came of it."""

    task_id: TaskId
    attempt: int
    agent_id: AgentId
    claim_id: ClaimId
    claimed_at: float
    finished_at: float | None
    result: str | None
    reason: str
    digest: str | None
    deploy_status_code: int | None
    deploy_stdout: str
    deploy_stderr: str
    outputs: Mapping[str, Json]

    @classmethod
    def begun(cls, task: Task, now: float) -> Attempt:
        """The present attempt of a task that was just leased."""
        assert task.agent_id is not None
        assert task.claim_id is not None
        return cls(task.id, task.attempt, task.agent_id, task.claim_id, now, None, None, "", None, None, "", "", {})


@dataclasses.dataclass(frozen=True)
class Event:
    """One line of a workflow's ordered history; ``seq`` has no gaps within the workflow."""

    workflow_id: WorkflowId
    seq: int
    at: float
    type: str
    task_id: TaskId | None
    body: Mapping[str, Json]


@dataclasses.dataclass(frozen=True)
class Report:
    """What an agent says of one attempt. ``digest`` covers all of it, so that a repeat can be recognised."""

    attempt: int
    claim_id: ClaimId
    status: TaskState
    deploy_status_code: int | None
    deploy_stdout: str
    deploy_stderr: str
    outputs: Mapping[str, Json]
    reason: str | None
    digest: str
