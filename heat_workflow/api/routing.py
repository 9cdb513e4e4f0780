# SPDX-License-Identifier: Apache-2.0
"""Routing: a route says its path, who may call it, what it takes and what it answers; one pipeline serves them all.

The same table makes the Starlette routes, the policy checks and the OpenAPI document, so the three cannot disagree.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import pydantic
import pydantic_core
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from heat_workflow import errors
from heat_workflow.api import reading
from heat_workflow.api.identity import OperatorIdentity, Sources, bearer
from heat_workflow.api.limits import Limits
from heat_workflow.api.policies import Policy
from heat_workflow.api.problems import common_headers, error_response, new_request_id, refusal
from heat_workflow.api.proof import Remembered, prove_join_token, proven_agent
from heat_workflow.api.verdicts import Operator
from heat_workflow.model import Agent
from heat_workflow.releases import Releases
from heat_workflow.store import Asks, Tx
from heat_workflow.taskqueue import TaskQueue, credentials, ending, sessions
from heat_workflow.taskqueue.polling import Polls
from heat_workflow.taskqueue.quotas import Quotas

LOG = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_AUDITED = ("task-not-found", "fenced", "undeclared-output", "invalid")  # an agent reaches beyond what is its own
_PATH_TOLD = 300  # characters of a path that the log repeats
_REQUEST_ID = re.compile(r"req-[0-9a-f-]{36}")


@dataclasses.dataclass(frozen=True)
class Call:
    """One request, read and checked: what an endpoint works with."""

    request: Request
    queue: TaskQueue
    polls: Polls
    policy: Policy
    limits: Limits
    releases: Releases
    quotas: Quotas
    max_wait: float
    source: str
    path: Mapping[str, str]
    body: Any
    query: Any
    operator: Operator | None = None
    agent: Agent | None = None
    token: credentials.Token | None = None
    proven: bool = True  # False: ``agent`` is as it was when the token was proven before, and is to be proven

    @property
    def project_id(self) -> str:
        assert self.operator is not None
        return self.operator.project_id

    @property
    def agent_id(self) -> str:
        assert self.agent is not None
        return self.agent.id

    @property
    def caller(self) -> str:
        """The agent and where it calls from: what somebody else does with its credential elsewhere is not held
        against it."""
        return f"{self.agent_id} at {self.source}"

    async def turn(self, asks: Asks, use_case: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the agent's use case; if its token has still to be proven, in the same transaction."""
        if self.proven:
            return await self.queue.turn(asks, use_case, *args, **kwargs)
        assert self.token is not None
        try:
            return await self.queue.turn(asks, sessions.proving, self.token, lambda tx: use_case(tx, *args, **kwargs))
        except (errors.Unauthenticated, errors.Gone):  # or it is the next one: what that brings about is done here
            await proven_agent(self.queue, self.token, rotating=False)
            return await self.queue.turn(asks, use_case, *args, **kwargs)

    async def proven_now(self) -> Call:
        """The call with the agent as it is now. Raises Unauthenticated or Gone."""
        if self.proven:
            return self
        assert self.token is not None
        agent = await proven_agent(self.queue, self.token, rotating=False)
        return dataclasses.replace(self, agent=agent, proven=True)

    def leaving(self) -> asyncio.Future[None]:
        """Done when the caller has gone away. Begun once the body was read; cancel it before answering."""
        return asyncio.ensure_future(_gone(self.request))

    def allowed(self, rule: str) -> bool:
        """Whether a further rule lets the operator do more than the route's own rule asks."""
        assert self.operator is not None
        try:
            self.policy.check(rule, self.operator.project_id, self.operator.credentials())
        except errors.Forbidden:
            return False
        return True

    def listed_project(self, rule: str, *, everywhere: bool) -> str | None:
        """Whose things are listed: the caller's project's, or ``everywhere`` those of all projects (None), for whom the
        rule lets."""
        if not everywhere:
            return self.project_id
        if not self.allowed(rule):
            raise errors.Forbidden(f"the policy {rule} does not allow this with your roles", code="policy")
        return None


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an endpoint gives back: JSON, nothing (204), or a stream of lines."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None
    content_type: str = "application/json"


@dataclasses.dataclass(frozen=True)
class Route:
    """One row of the table.

    ``caller`` is a policy rule, or how an agent must prove itself, or ``anybody``. ``shows`` is what good answers
    hold; ``streams`` are further content types that the caller may ask for; ``late`` is what is kept of a report that
    was fenced, with its task's id. With ``body_may_lack`` no body is an empty object. One that ``proves`` a remembered
    credential does so in its own transaction, with ``Call.turn``.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    endpoint: Callable[[Call], Awaitable[Answer]]
    caller: str
    summary: str
    body: type[pydantic.BaseModel] | None = None
    shows: type[pydantic.BaseModel] | None = None
    query: type[pydantic.BaseModel] | None = None
    answers: tuple[int, ...] = (200,)
    refusals: tuple[int, ...] = ()
    streams: tuple[str, ...] = ()
    late: Callable[[Call], tuple[str, Mapping[str, Any]]] | None = None
    body_may_lack: bool = False
    proves: bool = False


@dataclasses.dataclass(frozen=True)
class Services:
    """What the pipeline needs of the process."""

    queue: TaskQueue
    polls: Polls
    identity: OperatorIdentity
    policy: Policy
    limits: Limits
    sources: Sources
    releases: Releases
    quotas: Quotas
    max_wait: float
    remembered: Remembered = dataclasses.field(default_factory=Remembered)


def starlette_routes(table: Iterable[Route], services: Services) -> list[StarletteRoute]:
    """One per path, so that a method the path does not take is answered with those it takes."""
    paths: dict[str, dict[str, Route]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method] = route
    return [
        StarletteRoute(path, _Endpoint(by_method, services), methods=list(by_method))
        for path, by_method in paths.items()
    ]


class _Endpoint:
    """The ASGI application of one path. Starlette would wrap a function once more, to catch what never gets out."""

    def __init__(self, by_method: Mapping[str, Route], services: Services) -> None:
        self._by_method = by_method
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await _handle(self._by_method, self._services, Request(scope, receive, send))
        await response(scope, receive, send)


async def _handle(by_method: Mapping[str, Route], services: Services, request: Request) -> Response:
    request_id = new_request_id()
    route = by_method["GET" if request.method == "HEAD" else request.method]
    try:
        answer = await _answered(route, services, request, request_id)
    except errors.HeatWorkflowError as exc:
        return refusal(exc, request_id)
    except ClientDisconnect:
        return refusal(errors.Malformed("the body ended early"), request_id)
    except asyncio.CancelledError:
        if not services.queue.closed:
            raise
        return refusal(ending(), request_id)
    except Exception:
        LOG.exception("%s failed: %s %s", request_id, request.method, route.path)
        detail = f"the API failed; its log says more under {request_id}"
        return error_response(500, "internal", detail, request_id)
    return _head_of(answer, request_id) if request.method == "HEAD" else _response(answer, request_id)


def _note_caller(request: Request, request_id: str) -> None:
    """Log an operator's own request id (Heat's) beside ours; a stranger's would only fill the log."""
    theirs = request.headers.get("x-openstack-request-id", "")
    if _REQUEST_ID.fullmatch(theirs):
        path = ascii(request.url.path)[1:-1]  # what a caller writes into it ends no line and moves no cursor (S41)
        LOG.info("%s is %s of the caller: %s %s", request_id, theirs, request.method, path[:_PATH_TOLD])


async def _answered(route: Route, services: Services, request: Request, request_id: str) -> Answer:
    """Prove who calls, then read what they say: a stranger costs no parsing."""
    proof = await _authenticated(route, services, request)
    if "operator" in proof:
        _note_caller(request, request_id)
    agent: Agent | None = proof.get("agent")
    if agent is None:
        return await route.endpoint(await _read(route, services, request, proof))
    caller = f"{agent.id} at {services.sources.of(request)}"
    services.limits.admit_agent(caller)
    call: Call | None = None
    try:
        call = await _read(route, services, request, proof)
        return await route.endpoint(call)
    except (errors.Malformed, errors.NotFound, errors.Conflict, errors.Invalid) as exc:
        if not proof.get("proven", True):  # who has nothing to say any more hears that first
            await proven_agent(services.queue, proof["token"], rotating=False)
        services.limits.count_refusal(caller)
        if exc.code in _AUDITED and services.limits.admit_audit(agent.id, "refused"):
            late = route.late(call) if route.late and call and exc.code == "fenced" else None
            await services.queue.write(sessions.record_refusal, agent.id, exc.code, route.path, late)
        raise


async def _read(route: Route, services: Services, request: Request, proof: Mapping[str, Any]) -> Call:
    for name, value in request.path_params.items():
        if name.endswith("_id") and not _UUID.fullmatch(value):
            raise errors.NotFound(f"{name} {value[:64]!r} is not known")
    query = body = None
    if route.query is None:
        reading.refuse_query(request)
    else:
        query = reading.validated(route.query, reading.query_of(request), "query")
        if request.method == "HEAD" and "wait" in route.query.model_fields:
            query = query.model_copy(update={"wait": 0})  # there is nothing to wait for: the answer is not shown
    if route.body is None:
        await reading.refuse_body(request)
    else:
        body = await reading.json_body(request, route.body, may_lack=route.body_may_lack)
    return Call(
        request=request,
        queue=services.queue,
        polls=services.polls,
        policy=services.policy,
        limits=services.limits,
        releases=services.releases,
        quotas=services.quotas,
        max_wait=services.max_wait,
        source=services.sources.of(request),
        path=request.path_params,
        body=body,
        query=query,
        **proof,
    )


async def _authenticated(route: Route, services: Services, request: Request) -> dict[str, Any]:
    if route.caller == "anybody":
        return {}
    if route.caller == "join-token":
        token = bearer(request.headers.get("authorization"), credentials.JOIN)
        await prove_join_token(services.queue, token, services.limits, services.sources.of(request))
        return {"token": token}
    if route.caller in ("agent", "agent-rotating"):
        token = bearer(request.headers.get("authorization"), credentials.CREDENTIAL)
        agent = services.remembered.find(token) if route.proves else None
        if agent is not None:
            return {"token": token, "agent": agent, "proven": False}
        agent = await proven_agent(services.queue, token, rotating=route.caller == "agent-rotating")
        services.remembered.note(token, agent)
        return {"token": token, "agent": agent}
    said = request.headers.get("x-auth-token")
    operator = await services.identity.operator(
        said, request.method, request.scope["path"], services.sources.of(request)
    )
    services.policy.check(route.caller, operator.project_id, operator.credentials())
    return {"operator": operator}


def _head_of(answer: Answer, request_id: str) -> Response:
    """The headers that the answer would have, at once: a stream is not begun. Its length is left out unless known."""
    if answer.stream is None:
        return _response(answer, request_id)
    headers = {**common_headers(request_id), **answer.headers}
    head = Response(None, answer.status, headers, answer.content_type)
    if "content-length" not in {name.lower() for name in answer.headers}:
        del head.headers["content-length"]
    return head


def _response(answer: Answer, request_id: str) -> Response:
    headers = {**common_headers(request_id), **answer.headers}
    if answer.stream is not None:
        return StreamingResponse(answer.stream, answer.status, headers, answer.content_type)
    if answer.status == 204:
        return Response(None, 204, headers)
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, headers, answer.content_type)
    return Response(pydantic_core.to_json(answer.body), answer.status, headers, answer.content_type)
