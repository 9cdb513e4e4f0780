# SPDX-License-Identifier: Apache-2.0
"""Downloads: the agent itself, for machines that have nothing of ours yet and so no token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from heat_workflow.api.routing import Answer, Call, Route

_PIECE = 64 * 1024
_FOREVER = "public, max-age=31536000, immutable"


async def get_agent(call: Call) -> Answer:
    """The bytes of a release. They are what their digest says, for ever, so anybody may keep them."""
    call.limits.admit_download(call.source)
    digest = call.path["sha256"]
    path = await asyncio.to_thread(call.releases.find, digest)
    if path is None:
        raise await asyncio.to_thread(call.releases.unknown, digest)
    size = (await asyncio.to_thread(path.stat)).st_size
    headers = {"Content-Length": str(size), "Cache-Control": _FOREVER, "ETag": f'"{digest}"'}
    return Answer(200, headers=headers, stream=_pieces(path), content_type="application/zip")


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


ROUTES = [
    Route(
        "GET",
        "/agent/v1/agent/{sha256}.pyz",
        get_agent,
        "anybody",
        "The agent with that digest; every release stays served",
        refusals=(404, 429),
        streams=("application/zip",),
    )
]
