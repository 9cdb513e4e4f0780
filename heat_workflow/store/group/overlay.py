# SPDX-License-Identifier: Apache-2.0
"""Overlay: the transaction that a group's use cases see. It reads and changes loaded facts and does no I/O.

Each turn sees what those before it have changed. A turn that raises leaves no trace. What is not loaded raises
AloneError, whatever it is: there is one place where a use case decides, and this class knows no rule of the queue.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NoReturn

from heat_workflow import model
from heat_workflow.store import rows
from heat_workflow.store.group.facts import AloneError, Facts, LaterError

_MISSING = object()


class Overlay:
    """A ``Tx`` on facts. ``begin`` before each turn, then ``keep`` or ``take_back`` what it did."""

    def __init__(self, facts: Facts, keyed_digest: Callable[[str], str], load_stalled: Callable[[], set[str]]) -> None:
        """``load_stalled`` gives those of the group's agents that hold a stalled task: seldom asked, so not loaded
        before."""
        self.facts = facts
        self.before = dict(facts.tasks)
        self.keys_before = dict(facts.keys)
        self.keyed_digest = keyed_digest
        self._load_stalled = load_stalled
        self.new_attempts: dict[tuple[str, int], bool] = {}
        self.saved_attempts: dict[tuple[str, int], bool] = {}
        self.events: list[tuple[str, str, str | None, str]] = []  # workflow, type, task, body
        self.grown: collections.Counter[str] = collections.Counter()
        self._became_ready: dict[tuple[str, str], tuple[str, ...]] = {}
        self._undo: list[tuple[MutableMapping[Any, Any], Any, Any]] = []
        self.begin()

    def __getattr__(self, name: str) -> NoReturn:
        """Whatever else a Tx can do."""
        raise AloneError(name)

    # -- turns
    def begin(self) -> None:
        self._undo.clear()
        self._turn_events: list[tuple[str, str, str | None, str]] = []
        self._turn_grown: collections.Counter[str] = collections.Counter()
        self._unseen: type[AloneError | LaterError] | None = None  # why a look for work did not see everything
        self.wakes: collections.Counter[str] = collections.Counter()
        self.finished: list[str] = []

    def keep(self) -> None:
        self.events += self._turn_events
        self.grown.update(self._turn_grown)
        for place, key, _ in self._undo:
            task = self.facts.tasks[key] if place is self.facts.tasks else None
            if task is not None and task.state is not model.TaskState.READY:
                self._not_ready(task)

    def _not_ready(self, task: model.Task) -> None:
        """Later looks for work need not go past it again."""
        place = (task.project_id, task.route)
        pool = self.facts.pools.get(place)
        if pool is not None and task.id in pool.ids:
            pool.ids.remove(task.id)
        elif task.id in self._became_ready.get(place, ()):
            self._became_ready[place] = tuple(one for one in self._became_ready[place] if one != task.id)

    def take_back(self) -> None:
        for place, key, old in reversed(self._undo):
            if old is _MISSING:
                del place[key]
            else:
                place[key] = old

    def _put(self, place: MutableMapping[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((place, key, place.get(key, _MISSING)))
        place[key] = value

    def _loaded(self, place: Mapping[Any, Any], key: Any) -> Any:
        if key not in place:
            raise AloneError(key)
        return place[key]

    # -- what use cases ask
    @property
    def now(self) -> float:
        return self.facts.now

    def expect(self, rows: int) -> None:
        raise AloneError(rows)

    def find_agent(self, agent_id: str) -> model.Agent | None:
        agent: model.Agent | None = self._loaded(self.facts.agents, agent_id)
        return agent

    def find_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None:
        workflow = self.facts.workflows.get(workflow_id)
        if workflow is None:
            raise LaterError(workflow_id)
        return workflow if workflow.project_id == project_id else None

    def lock_workflow(self, project_id: str, workflow_id: str) -> model.Workflow | None:
        return self.find_workflow(project_id, workflow_id)

    def lock_to_claim(self, task: model.Task) -> bool:
        return task.workflow_id in self.facts.workflows

    def find_task_any_project(self, task_id: str) -> model.Task | None:
        task: model.Task | None = self._loaded(self.facts.tasks, task_id)
        return task

    def find_task(self, project_id: str, task_id: str) -> model.Task | None:
        task = self.find_task_any_project(task_id)
        return task if task is not None and task.project_id == project_id else None

    def find_attempt(self, task_id: str, attempt: int) -> model.Attempt | None:
        found: model.Attempt | None = self._loaded(self.facts.attempts, (task_id, attempt))
        return found

    def find_claim(self, agent_id: str, claim_id: str) -> model.Attempt | None:
        found: model.Attempt | None = self._loaded(self.facts.claims, (agent_id, claim_id))
        return found

    def get_definition(self, project_id: str, definition_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self._loaded(self.facts.definitions, (project_id, definition_id))
        return body

    def dependants_of(self, task_id: str) -> list[model.Task]:
        return [self._task(one) for one in self._loaded(self.facts.dependants, task_id)]

    def requirement_states(self, task_id: str) -> list[tuple[str, model.TaskState]]:
        known = self.facts.tasks
        return [
            (one, state if (task := known.get(one)) is None else task.state)
            for one, state in self._loaded(self.facts.requirements, task_id)
        ]

    def has_unfinished(self, workflow_id: str) -> bool:
        """True, or AloneError: the last task of a workflow ends it, and that takes a look at all of them."""
        for task_id in self._loaded(self.facts.unfinished, workflow_id):
            task = self.facts.tasks.get(task_id)
            if task is None or not task.finished:
                return True
        raise AloneError(workflow_id)

    def find_ready(self, project_id: str, route: str, limit: int, offset: int) -> list[model.Task]:
        pool = self._loaded(self.facts.pools, (project_id, route))
        ready = itertools.islice(
            (task for task in self._in_order((project_id, route), pool.ids) if self._may_be_taken(task)), offset + limit
        )
        page = list(ready)[offset:]
        if len(page) < limit and self._unseen is not LaterError:
            self._unseen = LaterError if pool.elsewhere else AloneError if pool.more else self._unseen
        return page

    def _in_order(self, place: tuple[str, str], ids: Sequence[str]) -> Iterable[model.Task]:
        """What is or was ready there, that which has become so in this group at its place among the others."""
        came = self._became_ready.get(place)
        if not came:
            return (self._task(one) for one in ids)
        found = [self._task(one) for one in (*ids, *came)]
        return sorted(found, key=lambda task: (-task.priority, task.ready_at or 0.0, task.seq))

    def _may_be_taken(self, task: model.Task) -> bool:
        workflow = self.facts.workflows.get(task.workflow_id)
        goes_on = workflow is not None and workflow.state in model.WORKFLOW_HANDS_OUT
        return goes_on and task.state is model.TaskState.READY

    def stalled_tasks(self, agent_id: str) -> list[model.Task]:
        """Asked when a look for work found none: then it has to have seen everything there is."""
        if self._unseen is not None:
            raise self._unseen(agent_id)
        if self.facts.stalled is None:
            self.facts.stalled = self._load_stalled()
        if agent_id in self.facts.stalled:
            raise AloneError(agent_id)
        return []

    def key_holder(self, project_id: str, concurrency_key: str) -> str | None:
        holder: str | None = self._loaded(self.facts.keys, (project_id, concurrency_key))
        return holder

    def ready_with_key(self, project_id: str, concurrency_key: str, limit: int) -> list[model.Task]:
        ids = self._loaded(self.facts.ready_with_key, (project_id, concurrency_key))
        ready = (self._task(one) for one in ids)
        return [task for task in ready if task.state is model.TaskState.READY][:limit]

    def _task(self, task_id: str) -> model.Task:
        task = self.facts.tasks.get(task_id)
        if task is None:
            raise AloneError(task_id)
        return task

    # -- what use cases change
    def save_task(self, before: model.Task, after: model.Task) -> bool:
        stands = self._task(before.id)
        if (stands.state, stands.attempt, stands.pending) != (before.state, before.attempt, before.pending):
            return False
        if after.workflow_id not in self.facts.workflows and after.state is not before.state:
            raise LaterError(after.workflow_id)
        self._put(self.facts.tasks, after.id, after)
        if after.state is model.TaskState.READY and before.state is not model.TaskState.READY:
            place = (after.project_id, after.route)
            self._put(self._became_ready, place, (*self._became_ready.get(place, ()), after.id))
        if after.finished and after.state is not before.state:
            self.finished.append(after.state.value)
        return True

    def take_key(self, task: model.Task) -> bool:
        if self.key_holder(task.project_id, str(task.concurrency_key)) is not None:
            return False
        self._put(self.facts.keys, (task.project_id, task.concurrency_key), task.id)
        return True

    def drop_key(self, task: model.Task) -> None:
        if self.key_holder(task.project_id, str(task.concurrency_key)) == task.id:
            self._put(self.facts.keys, (task.project_id, task.concurrency_key), None)

    def insert_attempt(self, attempt: model.Attempt) -> None:
        place = (attempt.task_id, attempt.attempt)
        self._put(self.facts.attempts, place, attempt)
        self._put(self.facts.claims, (attempt.agent_id, attempt.claim_id), attempt)
        self._put(self.new_attempts, place, True)

    def save_attempt(self, attempt: model.Attempt) -> None:
        place = (attempt.task_id, attempt.attempt)
        self._put(self.facts.attempts, place, attempt)
        self._put(self.saved_attempts, place, True)

    def add_event(self, workflow_id: str, type_: str, task: model.Task | None, body: Mapping[str, model.Json]) -> None:
        if workflow_id not in self.facts.workflows:
            raise LaterError(workflow_id)
        task_id = None if task is None else task.id
        self._turn_events.append((workflow_id, type_, task_id, rows.dump(body)))
        self.wake(f"workflow:{workflow_id}")
        if task_id is not None:
            self.wake(f"task:{task_id}")

    def grow(self, workflow_id: str, size: int) -> None:
        self._turn_grown[workflow_id] += size

    def wake(self, key: str) -> None:
        self.wakes[key] += 1
