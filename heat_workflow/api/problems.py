# SPDX-License-Identifier: Apache-2.0
"""Problems: an error as the answer a caller gets, the same form from every corner of the API."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from heat_workflow import errors

STATUS: dict[type[errors.HeatWorkflowError], int] = {
    errors.UnsupportedMedia: 415,
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
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
REFUSED = "heat_workflow.refused"  # the key in the scope
DETAIL_MOST = 2000  # characters: whatever a message repeats of what was said, the answer stays small
_NO_ROUTE = {
    404: ("not-found", "there is nothing at this path"),
    405: ("method-not-allowed", "this path does not take this method"),
}


class Refusal(Response):
    """An error as an answer; it leaves its status and reason in the scope for whoever counts them."""

    def __init__(self, status: int, code: str, content: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(content, status, headers, "application/json")
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[REFUSED] = (self.status_code, self._code)
        await super().__call__(scope, receive, send)


def new_request_id() -> str:
    return f"req-{uuid.uuid4()}"


def common_headers(request_id: str) -> dict[str, str]:
    """What every answer carries."""
    return {"X-Openstack-Request-Id": request_id, "X-Content-Type-Options": "nosniff"}


def refusal(exc: errors.HeatWorkflowError, request_id: str) -> Response:
    status = next((status for family, status in STATUS.items() if isinstance(exc, family)), 500)
    headers = {} if exc.retry_after is None else {"Retry-After": str(max(1, math.ceil(exc.retry_after)))}
    return error_response(status, exc.code, exc.detail, request_id, headers)


def error_response(
    status: int, code: str, detail: str, request_id: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    request_id = request_id or new_request_id()
    error = {
        "status": status,
        "code": f"heat-workflow.{code}",
        "title": TITLES.get(status, "Error"),
        "detail": detail if len(detail) <= DETAIL_MOST else f"{detail[:DETAIL_MOST]}...",
        "request_id": request_id,
    }
    content = json.dumps({"errors": [error]}, ensure_ascii=False, separators=(",", ":")).encode()
    return Refusal(status, code, content, {**common_headers(request_id), **(headers or {})})


def no_route(exc: HTTPException) -> Response:
    """The answer where no route fits: as any other error."""
    code, detail = _NO_ROUTE.get(exc.status_code, ("http", exc.detail))
    return error_response(exc.status_code, code, detail, headers=exc.headers)
