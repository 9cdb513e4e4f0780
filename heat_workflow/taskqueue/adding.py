# SPDX-License-Identifier: Apache-2.0
"""Adding: new workflows, and new tasks in them: all or none, with their edges resolved."""

from __future__ import annotations

import collections
import uuid
from collections.abc import Mapping, Sequence

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Json, NewTask, Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, batches, building, cancelling, requirements, settling, sizes, workflows


def add_tasks(
    tx: Tx,
    project_id: str,
    workflow_id: str,
    requests: Sequence[NewTask],
    workflow_name: str | None = None,
    amend: bool = False,
) -> tuple[list[Task], bool]:
    """Add the tasks and return them with whether they are new; the same request again returns what is there (G1).

    With ``workflow_name`` an unknown workflow comes into being, open, in the same transaction. With ``amend`` a sealed
    workflow takes them too, and is active until they are finished. Errors: NotFound, Conflict (an id with another
    body, a workflow that takes no more), Invalid (duplicate names, unknown requirements, a cycle).
    """
    workflow = workflows.open_for_adding(tx, project_id, workflow_id, workflow_name)
    tx.expect(_rows(requests))
    growth = sizes.growth_of(requests)
    requests = [request for wanted in requests for request in _fanned_out(wanted)]
    failpoint("add.begun")
    known = _already_there(tx, project_id, workflow_id, requests)
    if known is not None:
        return known, False
    tx.foresee(growth)
    workflows.make_room(tx, workflow, amend)
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
    asked = [name, list(tags), sealed, on_failure, [building.fingerprint(tx, task) for task in tasks]]
    mark = building.digest(asked)
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
    tx.expect(_rows(requests))
    tx.foresee(sizes.growth_of(requests))
    requests = [request for wanted in requests for request in _fanned_out(wanted)]
    if _already_there(tx, workflow.project_id, workflow.id, requests) is not None:
        raise errors.Conflict("a task id is in use elsewhere; choose other ids", code="id-in-use")
    return _insert(tx, workflow, requests)


def _rows(requests: Sequence[NewTask]) -> int:
    """How many rows these tasks take: each its own and two events."""
    return 3 * sum(len(request.servers or (1,)) for request in requests)


def _fanned_out(request: NewTask) -> list[NewTask]:
    """One request per server for ``servers``, else the request itself; every one with an id."""
    task_id = request.id or model.TaskId(str(uuid.uuid4()))
    if request.servers is None:
        return [model.changed(request, id=task_id)]
    return [
        model.changed(
            request,
            id=model.TaskId(str(uuid.uuid5(uuid.UUID(task_id), name))),
            name=f"{request.name}/{name}",
            server=server,
            servers=None,
            spec={**_for_member(request.spec, name, server), "fanout": request.name},
            batch=batches.index_of(request.spec, position),
        )
        for position, (name, server) in enumerate(request.servers.items())
    ]


def _for_member(spec: Mapping[str, Json], name: str, server: str) -> dict[str, Json]:
    """The spec with each input value ``{"get_server": "id" or "name"}`` filled in for this member of a fan-out."""
    own: dict[str, Json] = {"id": server, "name": name}
    values = spec.get("input_values")
    filled: dict[str, Json] = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        asked = value.get("get_server") if isinstance(value, dict) and len(value) == 1 else None
        if asked is not None and asked not in own:
            raise errors.Invalid(f"input {key}: get_server takes id or name", code="get-server")
        filled[key] = value if asked is None else own[str(asked)]
    return {**spec, "input_values": filled}


def _already_there(tx: Tx, project_id: str, workflow_id: str, requests: Sequence[NewTask]) -> list[Task] | None:
    """The tasks of a repeated request, None if none of the ids is known."""
    found = [tx.find_task_any_project(request.id) for request in requests if request.id]
    if not any(found):
        return None
    for task, request in zip(found, requests, strict=True):
        if task is not None and task.project_id != project_id:
            raise cancelling.task_not_found(workflow_id, task.id)
        if task is None or task.workflow_id != workflow_id:
            raise errors.Conflict(f"task id {request.id} is in use elsewhere; choose another id", code="id-in-use")
        if task.fingerprint != building.fingerprint(tx, request):
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
    wanted = {request.name: requirements.required_names(request) for request in requests}
    edges = requirements.resolve_requirements(tx, workflow, requests, wanted)
    seq = tx.next_task_seq(workflow.id)
    tasks = []
    for offset, request in enumerate(requests):
        required = edges[request.name]
        pending = sum(requirements.unfinished(other) for other in required) + bool(request.batch)
        tasks.append(building.task_of(tx, workflow, request, seq + offset, pending))
    renamed = {request.name for request in requests if request.undo_of is None}
    for holder in tx.find_names(workflow.id, renamed) if renamed else ():
        if holder.name in renamed:
            settling.move(tx, holder, model.changed(holder, holds_name=False))
    ids = {task.name: task.id for task in tasks}
    definitions = {task.definition_id: request.definition for task, request in zip(tasks, requests, strict=True)}
    skipped = [_first_hopeless(tx, task, edges[task.name]) for task in tasks]
    placed = [_placed(tx, task, hopeless) for task, hopeless in zip(tasks, skipped, strict=True)]
    tx.insert_tasks(placed, dict(definitions))  # type: ignore[arg-type]
    failpoint("add.inserted")
    tx.insert_requirements(
        workflow.id,
        [(task.id, requirements.id_of(other, ids)) for task in tasks for other in edges[task.name]],
    )
    failpoint("add.edges")
    for task, request in zip(placed, requests, strict=True):
        hidden = building.hidden_inputs(request)
        if hidden:
            tx.seal(task, "input", hidden)
        tx.add_event(workflow.id, "task-added", task, {"name": task.name, "state": TaskState.WAITING.value})
        if task.state is not TaskState.WAITING:
            announcing.announce(tx, task)
    failpoint("add.sealed")
    # Where one of them ends at once, that may have moved others before their turn here.
    ending = any(skipped) or any(task.spec.get("recorded_only") for task in tasks)
    moved = [_first_move(tx, task, hopeless, ending) for task, hopeless in zip(placed, skipped, strict=True)]
    failpoint("add.moved")
    return moved


def _first_hopeless(tx: Tx, task: Task, required: Sequence[Task | str]) -> Task | None:
    """A requirement that is over and does not let the task run."""
    over = (other for other in required if isinstance(other, Task) and other.finished)
    return next((other for other in over if not settling.lets_run(tx, other, task.undo_of)), None)


def _placed(tx: Tx, task: Task, hopeless: Task | None) -> Task:
    """The task as it comes in: ready, if nothing holds it and its move brings nothing else about."""
    moves_alone = hopeless is None and not task.pending and not task.spec.get("recorded_only")
    return announcing.readied(tx, task) if moves_alone else task


def _first_move(tx: Tx, added: Task, hopeless: Task | None, ending: bool) -> Task:
    task = (tx.find_task(added.project_id, added.id) if ending else None) or added
    if task.state is not TaskState.WAITING:
        return task
    if hopeless is not None:
        reason = f"requirement {hopeless.name} ({hopeless.id}) is {hopeless.state.value}"
        return settling.move(tx, task, lifecycle.moved(task, TaskState.SKIPPED, tx.now, status_reason=reason))
    if task.pending == 0:
        return settling.move(tx, task, announcing.readied(tx, task))
    return task
