# SPDX-License-Identifier: Apache-2.0
"""Reading: what a caller says, query and body, counted, strict and by schema."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
from typing import Any

import pydantic
from starlette.requests import Request

from heat_workflow import errors
from heat_workflow.api import strict_json

BODY_MOST = 1024 * 1024
BODY_SECONDS = 30.0  # a body that takes longer holds a connection and nothing else
_READ_AT_ONCE = 32 * 1024  # bytes; a larger body is read beside the event loop, where the others wait
_READERS = concurrent.futures.ThreadPoolExecutor(2, "read-body")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def query_of(request: Request) -> dict[str, str]:
    pairs = request.query_params.multi_items()
    values = dict(pairs)
    if len(values) < len(pairs):
        raise errors.Malformed("a query parameter stands twice")
    if any(_UNSTORABLE.search(text) for pair in pairs for text in pair):
        raise errors.Malformed("a query parameter holds NUL or half of a surrogate pair")
    return values


def refuse_query(request: Request) -> None:
    if request.scope["query_string"]:
        raise errors.Malformed(f"this request takes no query parameters, not {', '.join(request.query_params)[:200]}")


async def json_body(request: Request, schema: type[pydantic.BaseModel], may_lack: bool = False) -> pydantic.BaseModel:
    """The body as the schema has it. Raises UnsupportedMedia, TooLarge, Malformed or Invalid."""
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" or request.headers.get("content-encoding"):
        raise errors.UnsupportedMedia("the body must be application/json without content-encoding")
    body = await read_body(request)
    if may_lack and not body:
        return validated(schema, {}, "body")
    if len(body) <= _READ_AT_ONCE:
        return parsed(body, schema)
    return await asyncio.get_running_loop().run_in_executor(_READERS, parsed, body, schema)


def parsed(body: bytes, schema: type[pydantic.BaseModel]) -> pydantic.BaseModel:
    return validated(schema, strict_json.loads(body), "body")


async def read_body(request: Request, seconds: float = BODY_SECONDS) -> bytes:
    """The body, counted while it arrives. TooLarge past the limit, Malformed if it takes longer than ``seconds``."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > BODY_MOST:
        raise too_large()
    try:
        async with asyncio.timeout(seconds):
            return await _counted(request)
    except TimeoutError:
        raise _too_slow(seconds) from None


async def _counted(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > BODY_MOST:
            raise too_large()
    return bytes(parts)


def _too_slow(seconds: float) -> errors.Malformed:
    return errors.Malformed(f"the body did not arrive within {seconds:g} s", code="body-timeout")


def too_large() -> errors.TooLarge:
    return errors.TooLarge(f"the body is larger than {BODY_MOST} bytes")


async def refuse_body(request: Request, seconds: float = BODY_SECONDS) -> None:
    """Malformed if there is a body, of which no more is read than shows that."""
    if request.headers.get("content-length", "0").strip("0") or await _has_body(request, seconds):
        raise errors.Malformed("this request takes no body")


async def _has_body(request: Request, seconds: float) -> bool:
    if "transfer-encoding" not in request.headers:
        return False
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                if part:
                    return True
    except TimeoutError:
        raise _too_slow(seconds) from None
    return False


def validated(schema: type[pydantic.BaseModel], value: Any, where: str) -> pydantic.BaseModel:
    try:
        return schema.model_validate(value)
    except pydantic.ValidationError as exc:
        problems = [_problem(error) for error in exc.errors(include_url=False, include_input=False)[:5]]
        raise errors.Invalid(f"{where}: {'; '.join(problems)}") from None


def _problem(error: Any) -> str:
    place = ".".join(str(part)[:64] for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])
