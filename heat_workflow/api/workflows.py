# SPDX-License-Identifier: Apache-2.0
"""Workflows over HTTP: the operator's side of the sets that tasks live in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from heat_workflow import model
from heat_workflow.api import answers, queries, schemas, views
from heat_workflow.api.pages import fitting, page, written
from heat_workflow.api.routing import Answer, Call, Route
from heat_workflow.store import Tx
from heat_workflow.taskqueue import adding, events, repeating, sizes, workflows
from heat_workflow.taskqueue.looking import in_batches

ROOT = "/v1/workflows"
ONE = ROOT + "/{workflow_id}"
_DELETE_PATIENCE = 45.0  # seconds a DELETE waits for agents to confirm; below common proxy timeouts


def _shown(tx: Tx, project_id: str, workflow_id: str) -> dict[str, Any]:
    workflow = workflows.get_workflow(tx, project_id, workflow_id)
    return views.workflow(workflow, tx.count_tasks(workflow.id))


async def list_workflows(call: Call) -> Answer:
    query: queries.WorkflowsQuery = call.query
    given = {"state": query.state and query.state.value, "tag": query.tag, "name": query.name}
    filters = {name: value for name, value in given.items() if value is not None}

    def read(tx: Tx) -> bytes:
        def some(marker: str | None, count: int) -> list[model.Workflow]:
            return tx.list_workflows(call.project_id, filters, marker, count)

        found = itertools.chain.from_iterable(in_batches(some, query.marker, lambda workflow: workflow.id))
        shown = (views.workflow(workflow, tx.count_tasks(workflow.id)) for workflow in found)
        return page("workflows", shown, query.limit)

    return Answer(200, await call.queue.read(read))


async def create_workflow(call: Call) -> Answer:
    body: schemas.WorkflowIn = call.body
    return await _create(call, body.id, body)


async def put_workflow(call: Call) -> Answer:
    return await _create(call, call.path["workflow_id"], call.body)


async def _create(call: Call, workflow_id: str | None, body: schemas.WorkflowIn) -> Answer:
    tasks = [task.new_task() for task in body.tasks]
    sizes.check_request(tasks)
    workflow, new = await call.quotas.write(
        call.project_id,
        adding.create_workflow,
        call.project_id,
        workflow_id,
        body.name,
        body.tags,
        body.sealed,
        body.on_failure,
        tasks,
    )
    return Answer(201 if new else 200, await call.queue.read(_shown, call.project_id, workflow.id))


async def show_workflow(call: Call) -> Answer:
    workflow_id = call.path["workflow_id"]
    finished = {state.value for state in model.WORKFLOW_FINISHED}
    shown = await call.queue.wait_until(
        lambda seen: seen["state"] in finished,
        [f"workflow:{workflow_id}"],
        min(call.query.wait, call.max_wait),
        _shown,
        call.project_id,
        workflow_id,
    )
    return Answer(200, shown)


async def change_workflow(call: Call) -> Answer:
    body: schemas.WorkflowPatch = call.body
    workflow_id = call.path["workflow_id"]
    changes = {name: value for name, value in body.model_dump().items() if value is not None}
    await call.queue.write(workflows.change_workflow, call.project_id, workflow_id, changes)
    return Answer(200, await call.queue.read(_shown, call.project_id, workflow_id))


async def delete_workflow(call: Call) -> Answer:
    """Cancel what runs, wait for the agents to confirm, then forget it. 202 if they need longer: repeat."""
    workflow_id = call.path["workflow_id"]
    if not await call.queue.write(workflows.delete_workflow, call.project_id, workflow_id):
        await call.queue.wait_until(
            lambda unfinished: not unfinished,
            [f"workflow:{workflow_id}"],
            _DELETE_PATIENCE,
            lambda tx: tx.has_unfinished(workflow_id),
        )
        if not await call.queue.write(workflows.delete_workflow, call.project_id, workflow_id):
            return Answer(202, await call.queue.read(_shown, call.project_id, workflow_id))
    return Answer(204)


def _control(use_case: Callable[[Tx, str, str], Any]) -> Callable[[Call], Any]:
    async def endpoint(call: Call) -> Answer:
        await call.queue.write(use_case, call.project_id, call.path["workflow_id"])
        return Answer(202, await call.queue.read(_shown, call.project_id, call.path["workflow_id"]))

    return endpoint


async def list_events(call: Call) -> Answer:
    query: queries.EventsQuery = call.query
    workflow_id = call.path["workflow_id"]
    if "text/event-stream" in call.request.headers.get("accept", ""):
        await call.queue.read(workflows.get_workflow, call.project_id, workflow_id)
        after = max(query.after, _last_heard(call))
        stream = events.stream(call.queue, call.project_id, workflow_id, after, views.event)
        return Answer(200, stream=stream, content_type="text/event-stream")
    found = await call.queue.wait_until(
        bool,
        [f"workflow:{workflow_id}"],
        min(query.wait, call.max_wait),
        events.list_events,
        call.project_id,
        workflow_id,
        query.after,
        query.limit,
    )
    kept, _ = fitting(map(views.event, found), query.limit)
    return Answer(200, written("events", [text for _, text in kept], last=kept[-1][0]["seq"] if kept else query.after))


def _last_heard(call: Call) -> int:
    """The number of the last event that a browser got before its connection broke."""
    said = call.request.headers.get("last-event-id", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 19 else 0


async def show_graph(call: Call) -> Answer:
    graph = await call.queue.read(events.graph, call.project_id, call.path["workflow_id"])
    if call.query.format == "dot":
        return Answer(200, events.dot(graph).encode(), content_type="text/vnd.graphviz")
    return Answer(200, graph)


GET, CREATE, DELETE, CONTROL = "workflows:get", "workflows:create", "workflows:delete", "workflows:control"
ROUTES = [
    Route("GET", ROOT, list_workflows, GET, "List workflows", shows=answers.Workflows, query=queries.WorkflowsQuery),
    Route(
        "POST",
        ROOT,
        create_workflow,
        CREATE,
        "Create a workflow",
        shows=answers.Workflow,
        body=schemas.WorkflowIn,
        answers=(200, 201),
        refusals=(409, 429),
    ),
    Route(
        "PUT",
        ONE,
        put_workflow,
        CREATE,
        "Create a workflow under your id",
        shows=answers.Workflow,
        body=schemas.WorkflowIn,
        answers=(200, 201),
        refusals=(404, 409, 429),
    ),
    Route(
        "GET",
        ONE,
        show_workflow,
        GET,
        "Show a workflow, if asked once it is finished",
        shows=answers.Workflow,
        query=queries.WaitQuery,
        refusals=(404,),
    ),
    Route(
        "PATCH",
        ONE,
        change_workflow,
        CREATE,
        "Rename, tag",
        shows=answers.Workflow,
        body=schemas.WorkflowPatch,
        refusals=(404,),
    ),
    Route(
        "DELETE",
        ONE,
        delete_workflow,
        DELETE,
        "Cancel and forget",
        shows=answers.Workflow,
        answers=(202, 204),
        refusals=(404,),
    ),
    Route(
        "POST",
        ONE + "/pause",
        _control(workflows.pause_workflow),
        CONTROL,
        "Hand out no more work",
        shows=answers.Workflow,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "POST",
        ONE + "/resume",
        _control(workflows.resume_workflow),
        CONTROL,
        "Hand out work again",
        shows=answers.Workflow,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "POST",
        ONE + "/cancel",
        _control(workflows.cancel_workflow),
        CONTROL,
        "Cancel every task",
        shows=answers.Workflow,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "POST",
        ONE + "/rerun",
        _control(repeating.rerun_workflow),
        CONTROL,
        "Run what failed again, with what depends on it",
        shows=answers.Workflow,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "POST",
        ONE + "/undo",
        _control(repeating.undo_workflow),
        CONTROL,
        "Undo what succeeded, in reverse order",
        shows=answers.Workflow,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "GET",
        ONE + "/events",
        list_events,
        GET,
        "The ordered history",
        shows=answers.Events,
        streams=("text/event-stream",),
        query=queries.EventsQuery,
        refusals=(404,),
    ),
    Route(
        "GET",
        ONE + "/graph",
        show_graph,
        GET,
        "Tasks and edges",
        shows=answers.Graph,
        streams=("text/vnd.graphviz",),
        query=queries.GraphQuery,
        refusals=(404,),
    ),
]
