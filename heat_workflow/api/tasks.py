# SPDX-License-Identifier: Apache-2.0
"""Tasks over HTTP: add, watch, cancel and give up."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from heat_workflow import errors, model
from heat_workflow.api import answers, queries, schemas, views
from heat_workflow.api.pages import page
from heat_workflow.api.routing import Answer, Call, Route
from heat_workflow.api.workflows import CONTROL, CREATE, DELETE, GET
from heat_workflow.api.workflows import ONE as WORKFLOW
from heat_workflow.store import Tx
from heat_workflow.taskqueue import acting, adding, cancelling, changing, logs, looking, repeating, sessions, sizes

ROOT = WORKFLOW + "/tasks"
ONE = ROOT + "/{task_id}"


def _kind(body: Any) -> str:
    return "tasks" if isinstance(body, dict) and "tasks" in body else "task"


_One = Annotated[schemas.TaskIn, pydantic.Tag("task")]
_Several = Annotated[schemas.TasksIn, pydantic.Tag("tasks")]


class TaskOrTasks(pydantic.RootModel[Annotated[_One | _Several, pydantic.Discriminator(_kind)]]):
    """One task, or several that are added all or none."""


async def list_tasks(call: Call) -> Answer:
    """A page of tasks; of a fan-out, if asked once none of its members is unfinished."""
    query: queries.TasksQuery = call.query
    workflow_id = call.path["workflow_id"]
    if query.wait and query.fanout is None:
        raise errors.Invalid("wait: only the tasks of one fan-out can be waited for; give fanout")
    if query.wait and query.fanout is not None:
        await call.queue.wait_until(
            lambda unfinished: not unfinished,
            [f"workflow:{workflow_id}"],
            query.wait,
            looking.fanout_unfinished,
            call.project_id,
            workflow_id,
            query.fanout,
        )
    state = None if query.state is None else query.state.value

    def read(tx: Tx) -> bytes:
        found = looking.each_details(tx, call.project_id, workflow_id, state, query.marker, query.fanout)
        return page("tasks", map(views.task, found), query.limit)

    return Answer(200, await call.queue.read(read))


async def add_tasks(call: Call) -> Answer:
    body = call.body.root
    several = isinstance(body, schemas.TasksIn)
    wanted = body.tasks if several else [body]
    amend = several and body.amend
    tasks, new = await _add(call, [task.new_task() for task in wanted], None, amend)
    return await _added(call, tasks, new, single=not several and len(tasks) == 1)


async def put_task(call: Call) -> Answer:
    body: schemas.TaskPut = call.body
    task_id = call.path["task_id"]
    if body.id not in (None, task_id):
        raise errors.Invalid(f"body: id {body.id} is not the id in the path, {task_id}")
    if body.workflow is not None and body.workflow.id != call.path["workflow_id"]:
        raise errors.Invalid(f"body: workflow.id {body.workflow.id} is not the workflow in the path")
    request = body.model_copy(update={"id": task_id}).new_task()
    tasks, new = await _add(call, [request], None if body.workflow is None else body.workflow.name)
    return await _added(call, tasks, new, single=body.servers is None)


async def _add(
    call: Call, requests: list[model.NewTask], workflow_name: str | None, amend: bool = False
) -> tuple[list[model.Task], bool]:
    sizes.check_request(requests)
    place = (call.project_id, call.path["workflow_id"])
    return await call.quotas.write(call.project_id, adding.add_tasks, *place, requests, workflow_name, amend)


async def _added(call: Call, tasks: list[model.Task], new: bool, *, single: bool) -> Answer:
    status = 201 if new else 200
    if not single:
        return Answer(status, {"tasks": [views.brief(task) for task in tasks]})
    (details,) = await call.queue.read(looking.details_of, tasks, definitions=True)
    return Answer(status, views.task(details))


async def show_task(call: Call) -> Answer:
    query: queries.TaskQuery = call.query
    task_id = call.path["task_id"]
    if query.reveal and not call.allowed("secrets:read"):
        raise errors.Forbidden("the policy secrets:read does not allow this with your roles", code="policy")
    details = await call.queue.wait_until(
        lambda seen: seen.task.finished,
        [f"task:{task_id}"],
        min(query.wait, call.max_wait),
        looking.task_details,
        call.project_id,
        call.path["workflow_id"],
        task_id,
        query.reveal,
    )
    return Answer(200, views.task(details, reveal=query.reveal))


async def delete_task(call: Call) -> Answer:
    await call.queue.write(cancelling.detach_task, call.project_id, call.path["workflow_id"], call.path["task_id"])
    return Answer(204)


async def cancel_task(call: Call) -> Answer:
    place = (call.project_id, call.path["workflow_id"], call.path["task_id"])
    await call.queue.write(cancelling.cancel_task, *place)
    return Answer(202, views.task(await call.queue.read(looking.task_details, *place)))


async def change_task(call: Call) -> Answer:
    place = (call.project_id, call.path["workflow_id"], call.path["task_id"])
    changes = call.body.model_dump(exclude_unset=True)
    await call.queue.write(changing.change_task, *place, changes)
    return Answer(200, views.task(await call.queue.read(looking.task_details, *place)))


async def rerun_task(call: Call) -> Answer:
    place = (call.project_id, call.path["workflow_id"], call.path["task_id"])
    await call.queue.write(repeating.rerun_task, *place)
    return Answer(202, views.task(await call.queue.read(looking.task_details, *place)))


async def undo_task(call: Call) -> Answer:
    """The undo task, which is a task of its own to watch."""
    workflow_id = call.path["workflow_id"]
    undo = await call.queue.write(repeating.undo_task, call.project_id, workflow_id, call.path["task_id"])
    details = await call.queue.read(looking.task_details, call.project_id, workflow_id, undo.id)
    return Answer(202, views.task(details))


async def act_on_tasks(call: Call) -> Answer:
    """Many tasks at once, so that a group of thousands costs one request."""
    body: schemas.ActionIn = call.body
    if body.action in ("detach", "remove") and not call.allowed(DELETE):
        raise errors.Forbidden(f"the policy {DELETE} does not allow this with your roles", code="policy")
    tasks = await call.queue.write(acting.act, call.project_id, call.path["workflow_id"], body.action, body.ids)
    return Answer(202, {"tasks": [views.brief(task) for task in tasks]})


async def show_log(call: Call) -> Answer:
    """The output as it was written; with ``follow`` it streams until the attempt is over."""
    place = (call.project_id, call.path["workflow_id"], call.path["task_id"])
    await call.queue.read(cancelling.get_task, *place)
    if call.query.follow:
        return Answer(200, stream=logs.follow(call.queue, *place), content_type="text/plain; charset=utf-8")
    chunks = await call.queue.read(logs.read_log, *place, -1)
    return Answer(200, {"chunks": chunks.chunks, "attempt": chunks.attempt})


async def list_attempts(call: Call) -> Answer:
    """A page of attempts; the first has the late reports too."""
    query: queries.AttemptsQuery = call.query

    def read(tx: Tx) -> bytes:
        task = cancelling.get_task(tx, call.project_id, call.path["workflow_id"], call.path["task_id"])
        hidden = task.spec.get("hidden_outputs")
        found = (tx.find_attempt(task.id, number) for number in range(query.marker + 1, task.attempt + 1))
        shown = (views.attempt(attempt, hidden) for attempt in found if attempt is not None)
        late = [] if query.marker else tx.list_task_agent_events(task.id, sessions.LATE_MOST)
        return page(
            "attempts", shown, query.limit, "attempt", late_reports=[views.late_report(event) for event in late]
        )

    return Answer(200, await call.queue.read(read))


ROUTES = [
    Route("GET", ROOT, list_tasks, GET, "List tasks", shows=answers.Tasks, query=queries.TasksQuery, refusals=(404,)),
    Route(
        "POST",
        ROOT,
        add_tasks,
        CREATE,
        "Add tasks",
        shows=answers.Added,
        body=TaskOrTasks,
        answers=(200, 201),
        refusals=(404, 409, 429),
    ),
    Route(
        "POST",
        ROOT + "/actions",
        act_on_tasks,
        CONTROL,
        "Cancel, detach, remove or undo many",
        shows=answers.AddedTasks,
        body=schemas.ActionIn,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "PUT",
        ONE,
        put_task,
        CREATE,
        "Add a task under your id",
        shows=answers.Added,
        body=schemas.TaskPut,
        answers=(200, 201),
        refusals=(404, 409, 429),
    ),
    Route(
        "GET",
        ONE,
        show_task,
        GET,
        "Show a task, if asked once it is finished",
        shows=answers.Task,
        query=queries.TaskQuery,
        refusals=(404,),
    ),
    Route("DELETE", ONE, delete_task, DELETE, "Cancel and detach", answers=(204,), refusals=(404,)),
    Route("POST", ONE + "/cancel", cancel_task, CONTROL, "Cancel", shows=answers.Task, answers=(202,), refusals=(404,)),
    Route(
        "GET",
        ONE + "/attempts",
        list_attempts,
        GET,
        "Every attempt with its result",
        shows=answers.Attempts,
        query=queries.AttemptsQuery,
        refusals=(404,),
    ),
    Route(
        "PATCH",
        ONE,
        change_task,
        CREATE,
        "Change what nobody has claimed",
        shows=answers.Task,
        body=schemas.TaskPatch,
        refusals=(404, 409),
    ),
    Route(
        "POST",
        ONE + "/rerun",
        rerun_task,
        CONTROL,
        "Run again",
        shows=answers.Task,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "POST",
        ONE + "/undo",
        undo_task,
        CONTROL,
        "Take a success back",
        shows=answers.Task,
        answers=(202,),
        refusals=(404, 409),
    ),
    Route(
        "GET",
        ONE + "/log",
        show_log,
        GET,
        "The output as it is written",
        shows=answers.Log,
        streams=("text/plain",),
        query=queries.LogQuery,
        refusals=(404,),
    ),
]
