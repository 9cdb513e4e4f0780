# SPDX-License-Identifier: Apache-2.0
"""The Store protocol: durable transactions over workflows, tasks, agents and events.

A use case is a function of a ``Tx``. ``write`` runs it in one transaction and returns its result only after the commit
is durable; it may run the function again (lock conflict), so the function must have no effect outside the ``Tx``.
``read`` runs it on a snapshot. Errors of the database become ``errors.Unavailable``; errors the function raises roll
its transaction back and reach the caller.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from heat_workflow import model
from heat_workflow.loops import Loop

T = TypeVar("T")


class Tx(Protocol):
    """One transaction. ``get_`` and ``find_`` read, ``insert_``, ``save_`` and ``delete_`` write."""

    @property
    def now(self) -> float:
        """Seconds since the epoch by the database's clock; one value for the whole transaction."""

    def expect(self, rows: int) -> None:
        """Say how many rows will be written, before the work of making them: a store may want to run what is long
        elsewhere, from the beginning."""

    # -- workflows
    def find_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None: ...
    def lock_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None:
        """As find_workflow, and nobody else changes this workflow until the transaction ends."""

    def lock_to_claim(self, task: model.Task) -> bool:
        """Lock the workflow of a task that is about to be claimed; False if it is gone, or locked elsewhere.

        Only the first workflow of the transaction is waited for: who waits while it holds another could be waited for.
        """

    def insert_workflow(self, workflow: model.Workflow) -> bool:
        """False if the id is in use, in this project or another."""

    def save_workflow(self, workflow: model.Workflow) -> None: ...
    def delete_workflow(self, workflow_id: str) -> None:
        """Remove the workflow with its tasks, attempts, events and logs."""

    def list_ended(self, before: float, limit: int) -> list[model.Workflow]:
        """Workflows of every project that came to their end before that time, the oldest first."""

    def list_workflows(
        self, project_id: str | None, filters: Mapping[str, str], marker: str | None, limit: int
    ) -> list[model.Workflow]:
        """A page, the oldest first; of all projects for None."""

    def usage(self, project_id: str) -> model.Usage:
        """What the project keeps, summed over its workflows."""

    @property
    def growth(self) -> model.Usage:
        """What this transaction has added so far."""

    ceiling: Callable[[model.Usage], None] | None
    """Raises for a growth that is more than may be; set by who knows the limits."""

    def foresee(self, growth: model.Usage) -> None:
        """So much is about to be added: what is too much is refused before it is made, by ``ceiling``."""

    def grow(self, workflow_id: str, size: int) -> None:
        """Count so many bytes more for the workflow; ``insert_tasks`` counts its own."""

    def count_tasks(self, workflow_id: str) -> dict[str, int]:
        """Number of tasks by state."""

    # -- tasks
    def find_task(self, project_id: str, task_id: str) -> model.Task | None: ...
    def find_task_any_project(self, task_id: str) -> model.Task | None:
        """For the agent side alone, which proves its right by lease, attempt and claim."""

    def list_tasks(
        self, workflow_id: str, *, state: str | None = None, marker: str | None = None, limit: int | None = None
    ) -> list[model.Task]: ...
    def find_names(self, workflow_id: str, names: Iterable[str]) -> list[model.Task]:
        """The tasks that hold one of the names now, or whose fan-out base is one of them."""

    def insert_tasks(self, tasks: Sequence[model.Task], definitions: Mapping[str, Json]) -> None:
        """Add the tasks; ``definitions`` by digest, those already stored are shared."""

    def save_task(self, before: model.Task, after: model.Task) -> bool:
        """Compare-and-set on (id, state, attempt, pending): False if somebody else moved the task.

        Whoever changes the state has locked the task's workflow before.
        """

    def insert_requirements(self, workflow_id: str, edges: Iterable[tuple[str, str]]) -> None:
        """Edges as (task, what it requires)."""

    def has_unfinished(self, workflow_id: str) -> bool: ...
    def has_attached(self, workflow_id: str) -> bool:
        """Whether a task of the workflow still has its owner."""

    def list_requirements(self, workflow_id: str) -> list[tuple[str, str]]: ...
    def requirements_of(self, task_id: str) -> list[model.Task]: ...
    def requirement_states(self, task_id: str) -> list[tuple[str, model.TaskState]]:
        """Of each task that this one requires, its id and state."""

    def dependants_of(self, task_id: str) -> list[model.Task]:
        """Those that wait for the task, perhaps with others."""

    def next_task_seq(self, workflow_id: str) -> int: ...
    def delete_unused_definitions(self, limit: int) -> int:
        """Remove definitions that no task has, also while others add tasks with them; how many went."""

    def get_definition(self, project_id: str, definition_id: str) -> dict[str, Any]: ...
    def find_ready(self, project_id: str, route: str, limit: int, offset: int) -> list[model.Task]:
        """Ready tasks of active workflows by priority then age; another claim may be about to take one of them."""

    def due_ids(self, limit: int) -> list[str]:
        """The ids of these tasks: also of one whose row cannot be read."""

    def list_due(self, limit: int) -> list[model.Task]:
        """Tasks of every project whose ``due_at`` has come."""

    def key_holder(self, project_id: str, concurrency_key: str) -> str | None:
        """The id of the task that holds the concurrency key."""

    def take_key(self, task: model.Task) -> bool:
        """Take the task's concurrency key; False while another task holds it."""

    def drop_key(self, task: model.Task) -> None: ...
    def ready_with_key(self, project_id: str, concurrency_key: str, limit: int) -> list[model.Task]: ...
    def list_fanout(self, workflow_id: str, fanout: str, batch: int) -> list[model.Task]:
        """The members of one batch of a fan-out that hold their names."""

    def count_fanout(self, workflow_id: str, fanout: str) -> dict[str, int]:
        """Members of the fan-out by state."""

    def batch_unfinished(self, workflow_id: str, fanout: str, batch: int) -> bool:
        """Whether a member of this batch or one before it is unfinished."""

    def undo_tasks(self, task_id: str) -> list[model.Task]:
        """The tasks that were added to undo this one."""

    def save_spec(self, task: model.Task) -> None:
        """Write what was asked for anew: spec, priority, deadline."""

    # -- secrets
    def seal(self, task: model.Task, kind: str, values: Mapping[str, Json]) -> None:
        """Keep hidden values of the task, encrypted. Invalid if the store has no key."""

    def unseal(self, task: model.Task, kind: str) -> dict[str, Json]:
        """The hidden values by name. Unavailable if one cannot be decrypted (its row is not this task's, S60)."""

    def erase(self, task: model.Task, kind: str) -> None: ...
    def reseal(self, marker: tuple[str, str, str] | None, limit: int) -> tuple[int, tuple[str, str, str] | None]:
        """Seal the next rows of hidden values anew with the primary key: how many, and where to go on (None: done).

        Unavailable if one cannot be decrypted: its key is gone."""

    def count_readable_secrets(self) -> int:
        """How many hidden values there are, each decrypted once; Unavailable if one cannot be."""

    def keyed_digest(self, text: str) -> str:
        """A digest that is worth nothing without the store's key: hidden values cannot be guessed from it."""

    # -- attempts
    def insert_attempt(self, attempt: model.Attempt) -> None: ...
    def save_attempt(self, attempt: model.Attempt) -> None: ...
    def find_attempt(self, task_id: str, attempt: int) -> model.Attempt | None: ...
    def find_claim(self, agent_id: str, claim_id: str) -> model.Attempt | None: ...
    def list_attempts(self, task_id: str) -> list[model.Attempt]: ...
    def last_attempts(self, tasks: Sequence[model.Task]) -> dict[str, model.Attempt]:
        """By task id, the attempt the task stands at, with its outputs."""

    # -- agents
    def find_agent(self, agent_id: str) -> model.Agent | None: ...
    def lock_agent(self, agent_id: str) -> model.Agent | None: ...
    def insert_agent(self, agent: model.Agent) -> bool:
        """False if the id is in use, in this project or another."""

    def save_agent(self, agent: model.Agent) -> None: ...
    def save_last_seen(self, times: Mapping[str, float]) -> None:
        """By agent id, when it was last heard of."""

    def find_able_agent(self, project_id: str, capabilities: Sequence[str]) -> model.Agent | None:
        """An agent of the project that is not revoked and holds all of these; an active one if there is one, and of
        several the one that was heard of last."""

    def save_polls_at(self, agent_id: str, place: str) -> None:
        """Note at which replica the agent polls."""

    def list_agents(
        self, project_id: str | None, filters: Mapping[str, Any], marker: str | None, limit: int
    ) -> list[model.Agent]: ...
    def list_tombstones(self, before: float, limit: int) -> list[model.Agent]:
        """Agents of every project that were revoked before that time, the oldest first."""

    def delete_agent(self, agent_id: str) -> None:
        """Remove the agent with its security events."""

    def running_tasks(self, agent_ids: Sequence[str]) -> dict[str, list[str]]:
        """By agent, the ids of the tasks it holds a lease of; agents without any are left out."""

    def held_tasks(self, agent_id: str) -> list[model.Task]:
        """The tasks this agent holds a lease of."""

    def stalled_tasks(self, agent_id: str) -> list[model.Task]:
        """Those of them whose heartbeats are missing."""

    def insert_agent_event(
        self, agent: model.Agent, type_: str, body: Mapping[str, Json], task_id: str | None = None
    ) -> None:
        """A line of the agent's security events; with ``task_id`` it is about a task."""

    def list_agent_events(self, agent_id: str, after: int, limit: int) -> list[dict[str, Any]]: ...
    def recent_agent_events(self, agent_id: str, limit: int) -> list[tuple[str, float]]:
        """Type and time of the agent's last events, the newest first."""

    def list_task_agent_events(self, task_id: str, limit: int) -> list[dict[str, Any]]:
        """The events of agents that are about this task, the oldest first."""

    # -- events and logs
    def add_event(self, workflow_id: str, type_: str, task: model.Task | None, body: Mapping[str, Json]) -> None:
        """Append to the workflow's history; numbered without gaps when the transaction ends."""

    def forget_events(self, workflow_id: str) -> None:
        """Drop the events this transaction has added: the workflow goes away."""

    def list_events(self, workflow_id: str, after: int, limit: int) -> list[model.Event]: ...
    def insert_log(self, task_id: str, attempt: int, n: int, stream: str, text: str) -> None: ...
    def list_log(self, task_id: str, attempt: int, after: int) -> list[dict[str, Any]]: ...

    # -- numbers, for every project together; none of them looks at finished tasks
    def count_unfinished(self) -> dict[str, int]:
        """Unfinished tasks by state."""

    def oldest_ready(self) -> float | None:
        """Since when the task has been ready that has been so for the longest."""

    def count_agents(self) -> dict[tuple[str, str], int]:
        """Agents that are not revoked, by state and version (empty where it was never said)."""

    # -- wake-ups
    def wake(self, key: str) -> None:
        """Tell whoever waits for ``key``, on any replica, once this transaction is committed. A hint only."""


Json = model.Json


@dataclasses.dataclass(frozen=True)
class Asks:
    """What a use case is going to look at, so that it can be loaded for many of them at once."""

    agent_id: str
    task: tuple[str, int] | None = None  # reported: its id and attempt
    claim_id: str | None = None  # under which the next one is claimed
    size: int = 0  # bytes that it brings


class Store(Protocol):
    """Where the truth is kept."""

    @property
    def shared(self) -> bool:
        """Whether other API processes work on it at the same time."""

    @property
    def loops(self) -> Sequence[Loop]:
        """The background work it does."""

    @property
    def finished(self) -> Mapping[str, int]:
        """By finished state, how many tasks the committed transactions of this process brought there."""

    @property
    def listening(self) -> bool | None:
        """Whether the connection is up by which other processes' wake-ups come; None where there is none to be."""

    async def write(self, fn: Callable[[Tx], T]) -> T: ...
    async def turn(self, asks: Asks, fn: Callable[[Tx], T]) -> T:
        """As write, for a report or a claim: together with others that come at the same time."""

    async def read(self, fn: Callable[[Tx], T]) -> T: ...
    async def glance(self, fn: Callable[[Tx], T], asks: Asks | None = None) -> T:
        """As read, for a few rows by key: ``find_agent``, ``find_claim``, ``find_ready`` with a small limit.

        With ``asks`` it may be answered together with turns.
        """

    async def start(self, wake: Callable[[Mapping[str, int]], None]) -> None:
        """Begin work; ``wake`` is called in the event loop with the keys of committed transactions,
        each with how often it was woken for."""

    async def close(self) -> None: ...
