# SPDX-License-Identifier: Apache-2.0
"""Adding: new workflows, and new tasks in them: all or none, with their edges resolved."""

from __future__ import annotations

import collections
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Json, NewTask, Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import settling, workflows

UNGROUPED = "Heat::Ungrouped"


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON: equal for equal content, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def add_tasks(
    tx: Tx,
    project_id: str,
    workflow_id: str,
    requests: Sequence[NewTask],
    workflow_name: str | None = None,
) -> tuple[list[Task], bool]:
    """Add the tasks and return them with whether they are new; the same request again returns what is there (G1).

    With ``workflow_name`` an unknown workflow comes into being, open, in the same transaction. Errors: NotFound,
    Conflict (an id with another body, a workflow that takes no more), Invalid (duplicate names, unknown
    requirements, a cycle).
    """
    workflow = workflows.open_for_adding(tx, project_id, workflow_id, workflow_name)
    requests = [request for wanted in requests for request in _fanned_out(wanted)]
    known = _already_there(tx, project_id, workflow_id, requests)
    if known is not None:
        return known, False
    workflows.make_room(tx, workflow)
    return _insert(tx, workflow, requests), True


def create_workflow(
    tx: Tx,
    project_id: str,
    workflow_id: str | None,
    name: str,
    tags: Sequence[str],
    sealed: bool,
    on_failure: str,
    tasks: Sequence[NewTask],
) -> tuple[model.Workflow, bool]:
    """The workflow and whether it is new; with its tasks, all or none. The same request again returns it (G1)."""
    asked = [name, list(tags), sealed, on_failure, [fingerprint(task) for task in tasks]]
    mark = digest(asked)
    if workflow_id is not None:
        known = tx.lock_workflow(project_id, workflow_id)
        if known is not None:
            if known.fingerprint != mark:
                raise errors.Conflict(f"workflow {workflow_id} exists with another content", code="other-content")
            return known, False
    workflow = workflows.insert_workflow(tx, project_id, workflow_id, name, tags, sealed, on_failure, mark)
    if tasks:
        _insert_all_new(tx, workflow, tasks)
    return workflows.get_workflow(tx, project_id, workflow.id), True


def _insert_all_new(tx: Tx, workflow: model.Workflow, requests: Sequence[NewTask]) -> list[Task]:
    requests = [request for wanted in requests for request in _fanned_out(wanted)]
    if _already_there(tx, workflow.project_id, workflow.id, requests) is not None:
        raise errors.Conflict("a task id is in use elsewhere; choose other ids", code="id-in-use")
    return _insert(tx, workflow, requests)


def _fanned_out(request: NewTask) -> list[NewTask]:
    """One request per server for ``servers``, else the request itself; every one with an id."""
    task_id = request.id or model.TaskId(str(uuid.uuid4()))
    if request.servers is None:
        return [_replace(request, id=task_id)]
    spec = {**request.spec, "fanout": request.name}
    return [
        _replace(
            request,
            id=model.TaskId(str(uuid.uuid5(uuid.UUID(task_id), name))),
            name=f"{request.name}/{name}",
            server=server,
            servers=None,
            spec=spec,
        )
        for name, server in request.servers.items()
    ]


def _replace(request: NewTask, **changes: Any) -> NewTask:
    return NewTask(**{**vars(request), **changes})


def fingerprint(request: NewTask) -> str:
    """What makes two requests the same request."""
    return digest({name: value for name, value in vars(request).items() if name != "id"})


def _already_there(tx: Tx, project_id: str, workflow_id: str, requests: Sequence[NewTask]) -> list[Task] | None:
    """The tasks of a repeated request, None if none of the ids is known."""
    found = [tx.find_task_any_project(request.id) for request in requests if request.id]
    if not any(found):
        return None
    for task, request in zip(found, requests, strict=True):
        if task is None or task.project_id != project_id or task.workflow_id != workflow_id:
            raise errors.Conflict(f"task id {request.id} is in use elsewhere; choose another id", code="id-in-use")
        if task.fingerprint != fingerprint(request):
            raise errors.Conflict(
                f"task {task.name} ({task.id}) exists with another content; a changed task needs a new id",
                code="other-content",
            )
    return [task for task in found if task is not None]


def _insert(tx: Tx, workflow: model.Workflow, requests: Sequence[NewTask]) -> list[Task]:
    names = [request.name for request in requests]
    twice = sorted(name for name, count in collections.Counter(names).items() if count > 1)
    if twice:
        raise errors.Invalid(f"duplicate task name in one request: {', '.join(twice)}", code="duplicate-name")
    wanted = {request.name: _required_names(request) for request in requests}
    edges = _resolve(tx, workflow, requests, wanted)
    definitions = {digest(request.definition): request.definition for request in requests}
    seq = tx.next_task_seq(workflow.id)
    tasks = []
    for offset, request in enumerate(requests):
        required = edges[request.name]
        pending = sum(not _succeeded(other) for other in required)
        tasks.append(_task_of(tx, workflow, request, seq + offset, pending))
    for holder in tx.find_names(workflow.id, names):
        if holder.name in wanted:
            settling.move(tx, holder, Task(**{**vars(holder), "holds_name": False}))
    ids = {task.name: task.id for task in tasks}
    skipped = [_first_hopeless(edges[task.name]) for task in tasks]
    tx.insert_tasks(tasks, dict(definitions))  # type: ignore[arg-type]
    tx.insert_requirements(
        workflow.id,
        [(task.id, _id_of(other, ids)) for task in tasks for other in edges[task.name]],
    )
    for task in tasks:
        tx.add_event(workflow.id, "task-added", task, {"name": task.name, "state": task.state.value})
    return [_first_move(tx, task, hopeless) for task, hopeless in zip(tasks, skipped, strict=True)]


def _first_move(tx: Tx, task: Task, hopeless: Task | None) -> Task:
    if hopeless is not None:
        reason = f"requirement {hopeless.name} ({hopeless.id}) is {hopeless.state.value}"
        return settling.move(tx, task, lifecycle.moved(task, TaskState.SKIPPED, tx.now, status_reason=reason))
    if task.pending == 0:
        return settling.move(tx, task, settling.readied(tx, task))
    return task


def _required_names(request: NewTask) -> list[str]:
    """The names or ids a request requires: said by ``requires`` and implied by ``get_output``, each once."""
    late = [source for source, _ in late_inputs(request.spec).values()]
    return list(dict.fromkeys([*request.requires, *late]))


def late_inputs(spec: Mapping[str, Json]) -> dict[str, tuple[str, str]]:
    """By input name, the (task, output) its value comes from."""
    values = spec.get("input_values")
    found: dict[str, tuple[str, str]] = {}
    for name, value in values.items() if isinstance(values, dict) else ():
        source = value.get("get_output") if isinstance(value, dict) and len(value) == 1 else None
        if source is None:
            continue
        if not (isinstance(source, list) and len(source) == 2 and all(isinstance(part, str) for part in source)):
            raise errors.Invalid(f"input {name}: get_output takes [task, output], two strings", code="get-output")
        found[name] = (str(source[0]), str(source[1]))
    return found


def _resolve(
    tx: Tx, workflow: model.Workflow, requests: Sequence[NewTask], wanted: Mapping[str, list[str]]
) -> dict[str, list[Task | str]]:
    """By task name, what it requires: tasks that exist, or names of this request."""
    groups: dict[str, list[str]] = {}
    for request in requests:
        groups.setdefault(request.name, []).append(request.name)
        base = request.spec.get("fanout")
        if isinstance(base, str):
            groups.setdefault(base, []).append(request.name)
        if request.id:
            groups.setdefault(request.id, []).append(request.name)
    outside = {name for names in wanted.values() for name in names if name not in groups}
    existing: dict[str, list[Task]] = {}
    for task in tx.find_names(workflow.id, outside) if outside else ():
        for name in {task.name, task.id, task.fanout}:
            if name is not None:
                existing.setdefault(name, []).append(task)
    edges: dict[str, list[Task | str]] = {}
    for name, required in wanted.items():
        edges[name] = []
        for other in required:
            found: Sequence[Task | str] = groups.get(other) or existing.get(other) or ()
            if not found:
                raise errors.Invalid(
                    f"task {name} requires {other}, which is no task of workflow {workflow.id}",
                    code="unknown-requirement",
                )
            edges[name] += [one for one in found if one not in edges[name]]
    cycle = lifecycle.find_cycle(
        {name: [one for one in found if isinstance(one, str)] for name, found in edges.items()}
    )
    if cycle is not None:
        raise errors.Invalid(f"tasks require each other in a circle: {' -> '.join(cycle)}", code="cycle")
    return edges


def _succeeded(other: Task | str) -> bool:
    return isinstance(other, Task) and other.state is TaskState.SUCCEEDED


def _first_hopeless(required: Sequence[Task | str]) -> Task | None:
    tasks = (other for other in required if isinstance(other, Task))
    return next((task for task in tasks if lifecycle.requirement_outcome(task.state) is False), None)


def _id_of(other: Task | str, ids: Mapping[str, model.TaskId]) -> str:
    return other.id if isinstance(other, Task) else ids[other]


def _task_of(tx: Tx, workflow: model.Workflow, request: NewTask, seq: int, pending: int) -> Task:
    capabilities = sorted({*request.capabilities, *([f"server={request.server}"] if request.server else [])})
    pinned = [capability for capability in capabilities if capability.startswith("server=")]
    fanout = request.spec.get("fanout")
    spec: dict[str, Json] = {
        **request.spec,
        "requires": list(request.requires),
        "deadline": request.deadline,
        "server": request.server,
    }
    if request.definition.get("group") == UNGROUPED:
        spec["recorded_only"] = True
    task = Task(
        id=request.id or model.TaskId(str(uuid.uuid4())),
        project_id=workflow.project_id,
        workflow_id=workflow.id,
        seq=seq,
        name=request.name,
        fanout=fanout if isinstance(fanout, str) else None,
        holds_name=True,
        definition_id=digest(request.definition),
        spec=spec,
        capabilities=capabilities,
        route=(pinned or capabilities or [""])[0],
        action=request.action,
        priority=request.priority,
        fingerprint=fingerprint(request),
        state=TaskState.WAITING,
        status_reason="",
        pending=pending,
        attempt=0,
        attempts_left=request.max_attempts,
        claim_id=None,
        agent_id=None,
        detached=False,
        confirmed=None,
        undo_of=None,
        concurrency_key=request.concurrency_key,
        created_at=tx.now,
        ready_at=None,
        started_at=None,
        finished_at=None,
        not_before=None,
        lease_until=None,
        cancel_until=None,
        deadline_at=None if request.deadline is None else tx.now + request.deadline,
        due_at=None,
    )
    return lifecycle.with_due(task)
