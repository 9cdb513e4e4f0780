# SPDX-License-Identifier: Apache-2.0
"""Guests over HTTP: the whole of what an agent can say. It can name no task but those it holds."""

from __future__ import annotations

import contextlib
from typing import Any

from heat_workflow import errors, model
from heat_workflow.api import guest_answers as answers
from heat_workflow.api import guest_schemas as schemas
from heat_workflow.api import views
from heat_workflow.api.routing import Answer, Call, Route
from heat_workflow.taskqueue import building, claiming, logs, reporting, sessions
from heat_workflow.taskqueue.claiming import Claimed

ROOT = "/agent/v1"


async def enroll(call: Call) -> Answer:
    body: schemas.EnrollIn = call.body
    assert call.token is not None
    try:
        agent, new = await call.queue.write(
            sessions.enroll, call.token, body.credential_sha256, body.hw_uuid, body.agent_version
        )
    except errors.Unauthenticated:
        if call.limits.admit_audit(call.token.agent_id, "join-token-reused"):
            await call.queue.write(sessions.record_refused_enroll, call.token, body.credential_sha256)
        raise
    return Answer(201 if new else 200, {"agent_id": agent.id, "state": agent.state.value})


async def hello(call: Call) -> Answer:
    body: schemas.HelloIn = call.body
    call.limits.admit_session(call.caller)
    journal = {(entry.task_id, entry.attempt) for entry in body.journal}
    alive = call.polls.waiting(call.agent_id)
    greeting = (body.nonce, body.previous_nonce, body.version, body.inventory, journal, alive)
    try:
        agent = await call.queue.write(sessions.hello, call.agent_id, *greeting)
    except errors.Conflict:
        await _note_duplicate(call)
        raise
    made_at = agent.cred_made_at or 0.0
    return Answer(
        200,
        {
            "agent_id": agent.id,
            "server": agent.server,
            "lease": model.LEASE,
            "heartbeat_interval": model.HEARTBEAT_INTERVAL,
            "max_wait": call.max_wait,
            "rotate_after": sessions.ROTATE_AFTER,
            "rotate": (agent.last_seen_at or 0.0) - made_at > sessions.ROTATE_AFTER,
            "draining": agent.draining,
        },
    )


async def rotate(call: Call) -> Answer:
    body: schemas.CredentialIn = call.body
    try:
        call.limits.admit_rotation(call.caller)
    except errors.TooMany:
        if call.limits.admit_audit(call.agent_id, "rotation-starved"):
            await call.queue.write(sessions.record_starved, call.agent_id)
        raise
    await call.queue.write(sessions.rotate, call.agent_id, body.next_sha256)
    return Answer(200, {})


async def claim(call: Call) -> Answer:
    body: schemas.ClaimIn = call.body
    assert call.agent is not None
    await _check_nonce(call, call.agent, body.nonce)
    if not body.reports:
        return await _bare_claim(call, body.claim_id, body.wait)
    results = [await _listed_report(call, report) for report in body.reports]
    return Answer(200, {"task": await _next(call, body.claim_id, 0), "reports": results})


async def _check_nonce(call: Call, agent: model.Agent, nonce: str | None) -> None:
    """Conflict for a claim of another process than the one that has the session."""
    if sessions.is_of_another(agent, nonce):
        await _note_duplicate(call)
        raise sessions.identity_in_use(agent.id)
    if nonce is not None and agent.nonce == nonce and not sessions.claims_with_nonce(agent):
        await call.queue.write(sessions.note_claims_with_nonce, agent.id, nonce)


async def _note_duplicate(call: Call) -> None:
    if call.limits.admit_audit(call.agent_id, "duplicate-agent"):
        await call.queue.write(sessions.record_duplicate, call.agent_id)


async def _bare_claim(call: Call, claim_id: str, wait: float) -> Answer:
    """A claim that brings nothing: held to the rate of empty ones, unless there is work for it."""
    over = call.limits.empty_claims_over(call.agent_id)
    if over and not await call.queue.read(claiming.has_work, call.agent_id, claim_id):
        raise call.limits.too_many("claims come too often; let each wait for work", over)
    with call.limits.claiming(call.agent_id) as gave_work:
        claimed = await _next(call, claim_id, wait)
        if claimed is None:
            return Answer(204)
        gave_work()
    return Answer(200, {"task": claimed, "reports": []})


async def _next(call: Call, claim_id: str, wait: float) -> dict[str, Any] | None:
    assert call.agent is not None
    seconds = min(wait, call.max_wait)
    bare = isinstance(call.body, schemas.ClaimIn) and call.body.nonce is None
    try:
        claimed: Claimed | None = await call.polls.claim(call.agent, claim_id, seconds, call.leaving, bare)
    except errors.Conflict as exc:
        take_turns = exc.code == "superseded" and not call.limits.admit_superseded(call.agent_id)
        if take_turns or exc.code == "identity-in-use":
            await _note_duplicate(call)
        raise
    return None if claimed is None else views.claimed(claimed)


async def _listed_report(call: Call, report: schemas.ListedReport) -> dict[str, Any]:
    try:
        task = await _record(call, report.task_id, report)
    except (errors.Conflict, errors.NotFound, errors.Invalid) as exc:
        call.limits.count_refusal(call.caller)
        if exc.code == "fenced" and call.limits.admit_audit(call.agent_id, "refused"):
            late = (report.task_id, reporting.late(_said(report)))
            await call.queue.write(sessions.record_refusal, call.agent_id, exc.code, f"{ROOT}/claim", late)
        status = 404 if isinstance(exc, errors.NotFound) else 409 if isinstance(exc, errors.Conflict) else 422
        return {"task_id": report.task_id, "status": status, "detail": exc.detail}
    return {"task_id": report.task_id, "status": 200, "detail": task.state.value}


async def _record(call: Call, task_id: str, body: schemas.ReportIn) -> model.Task:
    said = _said(body)
    return await call.turn(reporting.asks(call.agent_id, task_id, said), reporting.report, call.agent_id, task_id, said)


def _said(body: schemas.ReportIn) -> model.Report:
    _refuse_large(body.outputs)
    fields = body.model_dump(exclude={"claim", "task_id"})
    return model.Report(
        attempt=body.attempt,
        claim_id=model.ClaimId(body.claim_id),
        status=model.TaskState(body.status),
        deploy_status_code=body.deploy_status_code,
        deploy_stdout=body.deploy_stdout,
        deploy_stderr=body.deploy_stderr,
        outputs=body.outputs,
        reason=body.reason,
        digest=building.digest(fields),
    )


def _refuse_large(outputs: dict[str, Any]) -> None:
    total = 0
    for name, value in outputs.items():
        size = len(value.encode()) if isinstance(value, str) else len(repr(value))
        total += size
        if size > schemas.OUTPUT_MOST or total > schemas.OUTPUTS_MOST:
            raise errors.TooLarge(
                f"output {name}: one holds {schemas.OUTPUT_MOST} bytes at most, all together {schemas.OUTPUTS_MOST}"
            )


async def report(call: Call) -> Answer:
    body: schemas.ReportIn = call.body
    task_id = call.path["task_id"]
    if body.claim is None:
        task = await _record(call, task_id, body)
        return Answer(200, {"state": task.state.value, "task": None})
    call.polls.saw(call.agent_id)
    said = _said(body)
    asks = reporting.asks(call.agent_id, task_id, said, body.claim.claim_id)
    task, claimed = await call.turn(asks, claiming.report_and_claim, call.agent_id, task_id, said, body.claim.claim_id)
    following = None if claimed is None else views.claimed(claimed)
    if following is None and body.claim.wait > 0:
        with contextlib.suppress(errors.Conflict, errors.Gone, errors.Unauthenticated, errors.Unavailable):
            following = await _next(await call.proven_now(), body.claim.claim_id, body.claim.wait)  # the report stands
    return Answer(200, {"state": task.state.value, "task": following})


async def heartbeat(call: Call) -> Answer:
    body: schemas.HeartbeatIn = call.body
    call.limits.admit_heartbeat(call.agent_id, call.path["task_id"])
    call.polls.saw(call.agent_id)
    task = await call.queue.write(reporting.heartbeat, call.agent_id, call.path["task_id"], body.attempt, body.claim_id)
    cancel = task.state is model.TaskState.CANCELLING
    return Answer(200, {"lease": model.LEASE, "cancel": cancel, "grace": model.CANCEL_GRACE})


async def add_log(call: Call) -> Answer:
    body: schemas.LogIn = call.body
    call.limits.admit_log(call.agent_id, call.path["task_id"])
    chunks = [(chunk.n, chunk.stream, chunk.text) for chunk in body.chunks]
    following = await call.queue.write(
        logs.append, call.agent_id, call.path["task_id"], body.attempt, body.claim_id, chunks
    )
    return Answer(200, {"next": following})


TASK = ROOT + "/tasks/{task_id}"
ROUTES = [
    Route(
        "POST",
        ROOT + "/claim",
        claim,
        "agent",
        "Take the next task, waiting for one",
        shows=answers.Claimed,
        body=schemas.ClaimIn,
        answers=(200, 204),
        refusals=(409, 410),
    ),
    Route(
        "PUT",
        TASK + "/report",
        report,
        "agent",
        "The outcome of an attempt",
        shows=answers.Reported,
        body=schemas.ReportIn,
        refusals=(404, 409, 410),
        proves=True,
        late=lambda call: (call.path["task_id"], reporting.late(_said(call.body))),
    ),
    Route(
        "POST",
        TASK + "/heartbeat",
        heartbeat,
        "agent",
        "Extend the lease, hear of a cancel",
        shows=answers.Heartbeat,
        body=schemas.HeartbeatIn,
        refusals=(404, 409, 410),
    ),
    Route(
        "POST",
        ROOT + "/hello",
        hello,
        "agent",
        "Open a session",
        shows=answers.Session,
        body=schemas.HelloIn,
        refusals=(409, 410),
    ),
    Route(
        "PUT",
        ROOT + "/credential",
        rotate,
        "agent-rotating",
        "Announce the next secret",
        shows=answers.Nothing,
        body=schemas.CredentialIn,
        refusals=(409, 410),
    ),
    Route(
        "POST",
        ROOT + "/enroll",
        enroll,
        "join-token",
        "Use the join token, once",
        shows=answers.Enrolled,
        body=schemas.EnrollIn,
        answers=(200, 201),
    ),
    Route(
        "POST",
        TASK + "/log",
        add_log,
        "agent",
        "The output as it is written",
        shows=answers.LogTaken,
        body=schemas.LogIn,
        refusals=(404, 409, 410),
    ),
]
