# SPDX-License-Identifier: Apache-2.0
"""The page of limits: its numbers are the code's."""

from __future__ import annotations

import pytest

from guest_agent import pump
from heat_workflow import conf
from heat_workflow.api import guard, guest_schemas, limits, pages, reading, schemas, strict_json
from heat_workflow.cmd import room, sparing
from heat_workflow.cmd.protocol import BoundedProtocol
from heat_workflow.taskqueue import logs, sizes
from tests.docs.pages import ADMIN

TEXT = " ".join((ADMIN / "limits.rst").read_text().split())
KIB, MIB = 1024, 1024 * 1024
MAX_WAIT = next(option.default for option in conf.API if option.name == "max_wait")
AGENTS = next(option.default for option in conf.QUOTA if option.name == "agents")


@pytest.mark.parametrize(
    "phrase",
    [
        f"empty without having waited: {limits.EMPTY_CLAIMS.per_second:g} per second and agent, "
        f"{limits.EMPTY_CLAIMS.burst} at once",
        f"heartbeats: 1 in {1 / limits.HEARTBEATS.per_second:g} seconds for each task, "
        f"{limits.HEARTBEATS.burst} at once",
        f"log chunks: {limits.LOG_CHUNKS.per_second:g} per second for each task, {limits.LOG_CHUNKS.burst} at once",
        f"hello: {limits.SESSIONS.per_second:g} per second and agent, {limits.SESSIONS.burst} at once",
        f"rotation: {limits.ROTATIONS.per_second * 60:g} per minute and agent, {limits.ROTATIONS.burst} at once",
        f"that were refused: {limits.REFUSALS.per_second:g} per second, {limits.REFUSALS.burst} at once",
        f"downloads of the agent: {limits.DOWNLOADS.per_second:g} per second and source address, "
        f"{limits.DOWNLOADS.burst} at once",
        f"wrong join tokens: {limits.WRONG_JOIN_TOKENS.per_second * 60:g} per minute",
        f"The first {limits.AUDITS.burst} security events of an agent and kind are written down, then "
        f"{'one' if limits.AUDITS.per_second * 60 == 1 else '?'} per minute",
        f"body of a request - {reading.BODY_MOST // MIB} MiB, within {reading.BODY_SECONDS:g} s",
        f"headers; URL - {guard.HEADERS_MOST // KIB} KiB; {guard.URL_MOST // KIB} KiB",
        f"depth of JSON; a number - {strict_json.DEPTH_MOST} levels",
        f"one output; all of a report - {guest_schemas.OUTPUT_MOST // KIB} KiB; "
        f"{guest_schemas.OUTPUTS_MOST // KIB} KiB",
        f"live log of an attempt - {logs.KEPT_MOST // MIB} MiB",
        f"head {pump.HEAD // KIB} KiB and tail {pump.TAIL // KIB} KiB",
        f"multiplied by servers - {sizes.REQUEST_MOST // MIB} MiB",
        f"a wait - {MAX_WAIT:g} s",
        f"arrays, objects and keys of a body - {strict_json.PARTS_MOST:,}",
        f"declared inputs, outputs and edges in one request - {schemas.PARTS_MOST:,}",
        f"inventory of an agent - {guest_schemas.INVENTORY_MOST // KIB} KiB",
        f"page of a list - 1,000, and {pages.PAGE_MOST // MIB} MiB",
        f"takes less than {BoundedProtocol.drain_least // KIB} KiB of an answer in {BoundedProtocol.drain_seconds:g} s",
        f"allows, less {room.KEPT_BACK}.",
        f"{limits.TOKENS_AT_ONCE} at once for each source address are validated and {limits.TOKENS_WAITING} wait, "
        f"{limits.TOKENS_MOST} of all",
        f"the log gets {sparing.ALIKE_MOST} a minute, the first with its traceback, and {sparing.LOGGER_MOST} of one",
        f"``[quota] agents`` ({AGENTS:,}",
    ],
)
def test_a_limit_is_told_as_it_is(phrase: str) -> None:
    assert phrase in TEXT.replace(" * - ", " - ")
