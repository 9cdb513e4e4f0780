# SPDX-License-Identifier: Apache-2.0
"""Guard: what is refused by its head alone: its shape, whatever server runs the application, or where it leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from heat_workflow.api.problems import error_response, no_route

URL_MOST = 4 * 1024
HEADERS_MOST = 16 * 1024
Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


def guarded(application: Application) -> Application:
    """The application behind the guard: 414, 431, 400 for a head that two servers could read in two ways, 404 and 405
    where no route fits."""

    async def guard(
        scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        refused = find_refusal(scope) if scope["type"] == "http" else None
        if refused is None:
            try:
                await application(scope, receive, send)
            except HTTPException as exc:
                await no_route(exc)(scope, receive, send)
        else:
            status, code, detail = refused
            await error_response(status, code, detail, headers={"Connection": "close"})(scope, receive, send)

    return guard


def find_refusal(scope: Scope) -> tuple[int, str, str] | None:
    """Status, code and words for a head that is refused; None for a good one."""
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > URL_MOST:
        return url_too_long()
    headers: Headers = scope["headers"]
    if sum(len(name) + len(value) + 4 for name, value in headers) > HEADERS_MOST:
        return headers_too_large()
    if sum(name == b"host" for name, _ in headers) > 1:
        return 400, "malformed", "more than one Host"
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or scope["http_version"] == "1.0"):
        return 400, "malformed", "the only Transfer-Encoding is chunked, in HTTP/1.1"
    return None


def url_too_long() -> tuple[int, str, str]:
    return 414, "url-too-long", f"the URL is longer than {URL_MOST} bytes"


def headers_too_large() -> tuple[int, str, str]:
    return 431, "headers-too-large", f"the headers are larger than {HEADERS_MOST} bytes"
