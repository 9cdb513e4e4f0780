# SPDX-License-Identifier: Apache-2.0
"""Routing: a route says its path, who may call it, what it takes and what it answers; one pipeline serves them all.

The same table makes the Starlette routes, the policy checks and the OpenAPI document, so the three cannot disagree.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal

import pydantic
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as StarletteRoute

from heat_workflow import errors
from heat_workflow.api import strict_json
from heat_workflow.api.identity import Operator, OperatorIdentity, bearer
from heat_workflow.api.policies import Policy
from heat_workflow.model import Agent
from heat_workflow.taskqueue import TaskQueue, credentials, sessions
from heat_workflow.taskqueue.polling import Polls

LOG = logging.getLogger(__name__)
BODY_MOST = 1024 * 1024
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REQUEST_ID = re.compile(r"req-[0-9a-f-]{36}")
STATUS: dict[type[errors.HeatWorkflowError], int] = {
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.Invalid: 422,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclasses.dataclass(frozen=True)
class Call:
    """One request, read and checked: what an endpoint works with."""

    request: Request
    queue: TaskQueue
    polls: Polls
    policy: Policy
    path: Mapping[str, str]
    body: Any
    query: Any
    operator: Operator | None = None
    agent: Agent | None = None
    token: credentials.Token | None = None

    @property
    def project_id(self) -> str:
        assert self.operator is not None
        return self.operator.project_id

    @property
    def agent_id(self) -> str:
        assert self.agent is not None
        return self.agent.id

    def allowed(self, rule: str) -> bool:
        """Whether a further rule lets the operator do more than the route's own rule asks."""
        assert self.operator is not None
        try:
            self.policy.check(rule, self.operator.project_id, self.operator.credentials())
        except errors.Forbidden:
            return False
        return True


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
    """One row of the table. ``caller`` is a policy rule, or how an agent must prove itself, or ``anybody``."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    endpoint: Callable[[Call], Awaitable[Answer]]
    caller: str
    summary: str
    body: type[pydantic.BaseModel] | None = None
    query: type[pydantic.BaseModel] | None = None
    answers: tuple[int, ...] = (200,)
    refusals: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Services:
    """What the pipeline needs of the process."""

    queue: TaskQueue
    polls: Polls
    identity: OperatorIdentity
    policy: Policy


def starlette_route(route: Route, services: Services) -> StarletteRoute:
    async def handle(request: Request) -> Response:
        request_id = _request_id(request)
        try:
            answer = await route.endpoint(await _read(route, services, request))
        except errors.HeatWorkflowError as exc:
            return refusal(exc, request_id)
        except ClientDisconnect:
            return refusal(errors.Malformed("the body ended early"), request_id)
        except Exception:
            LOG.exception("%s failed: %s %s", request_id, request.method, route.path)
            detail = f"the API failed; its log says more under {request_id}"
            return error_response(500, "internal", detail, request_id)
        return _response(answer, request_id)

    return StarletteRoute(route.path, handle, methods=[route.method])


def _request_id(request: Request) -> str:
    """A new id; the caller's own (Heat's) is logged beside it."""
    request_id = f"req-{uuid.uuid4()}"
    theirs = request.headers.get("x-openstack-request-id", "")
    if _REQUEST_ID.fullmatch(theirs):
        LOG.info("%s is %s of the caller: %s %s", request_id, theirs, request.method, request.url.path)
    return request_id


async def _read(route: Route, services: Services, request: Request) -> Call:
    """Prove who calls, then read what they say: a stranger costs no parsing."""
    proof = await _authenticated(route, services, request)
    for name, value in request.path_params.items():
        if not _UUID.fullmatch(value) and not name.startswith("any_"):
            raise errors.NotFound(f"{name} {value[:64]!r} is not known")
    query = body = None
    if route.query is None:
        _refuse_query(request)
    else:
        query = _validated(route.query, _query_of(request), "query")
    if route.body is None:
        await _refuse_body(request)
    else:
        body = _validated(route.body, await _json_body(request), "body")
    return Call(request, services.queue, services.polls, services.policy, request.path_params, body, query, **proof)


async def _authenticated(route: Route, services: Services, request: Request) -> dict[str, Any]:
    if route.caller == "anybody":
        return {}
    if route.caller == "join-token":
        return {"token": bearer(request.headers.get("authorization"), credentials.JOIN)}
    if route.caller == "agent":
        token = bearer(request.headers.get("authorization"), credentials.CREDENTIAL)
        return {"token": token, "agent": await services.queue.read(sessions.authenticate, token)}
    operator = await services.identity.operator(request.headers.get("x-auth-token"))
    services.policy.check(route.caller, operator.project_id, operator.credentials())
    return {"operator": operator}


def _query_of(request: Request) -> dict[str, str]:
    pairs = request.query_params.multi_items()
    values = dict(pairs)
    if len(values) < len(pairs):
        raise errors.Malformed("a query parameter stands twice")
    return values


def _refuse_query(request: Request) -> None:
    if request.query_params:
        raise errors.Malformed(f"this request takes no query parameters, not {', '.join(request.query_params)[:200]}")


async def _json_body(request: Request) -> Any:
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" or request.headers.get("content-encoding"):
        raise errors.Malformed("the body must be application/json without content-encoding", code="media-type")
    return strict_json.loads(await _bytes(request))


async def _bytes(request: Request) -> bytes:
    """The body, counted while it arrives."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > BODY_MOST:
        raise too_large()
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > BODY_MOST:
            raise too_large()
    return bytes(parts)


def too_large() -> errors.TooLarge:
    return errors.TooLarge(f"the body is larger than {BODY_MOST} bytes")


async def _refuse_body(request: Request) -> None:
    if await _bytes(request):
        raise errors.Malformed("this request takes no body")


def _validated(schema: type[pydantic.BaseModel], value: Any, where: str) -> pydantic.BaseModel:
    try:
        return schema.model_validate(value)
    except pydantic.ValidationError as exc:
        problems = [_problem(error) for error in exc.errors(include_url=False, include_input=False)[:5]]
        raise errors.Invalid(f"{where}: {'; '.join(problems)}") from None


def _problem(error: Any) -> str:
    place = ".".join(str(part)[:64] for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])


def refusal(exc: errors.HeatWorkflowError, request_id: str) -> Response:
    status = next((status for family, status in STATUS.items() if isinstance(exc, family)), 500)
    headers = {} if exc.retry_after is None else {"Retry-After": str(max(1, round(exc.retry_after)))}
    return error_response(status, exc.code, exc.detail, request_id, headers)


def error_response(
    status: int, code: str, detail: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    error = {
        "status": status,
        "code": f"heat-workflow.{code}",
        "title": TITLES.get(status, "Error"),
        "detail": detail,
        "request_id": request_id,
    }
    return _response(Answer(status, {"errors": [error]}, headers or {}), request_id)


def _response(answer: Answer, request_id: str) -> Response:
    headers = {"X-Openstack-Request-Id": request_id, "X-Content-Type-Options": "nosniff", **answer.headers}
    if answer.stream is not None:
        return StreamingResponse(answer.stream, answer.status, headers, answer.content_type)
    if answer.status == 204:
        return Response(None, 204, headers)
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, headers, answer.content_type)
    content = json.dumps(answer.body, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, answer.status, headers, answer.content_type)
