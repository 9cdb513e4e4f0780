# SPDX-License-Identifier: Apache-2.0
"""The page of limits: its numbers are the code's."""

from __future__ import annotations

import pytest

from guest_agent import pump
from heat_workflow import conf
from heat_workflow.api import guard, guest_schemas, limits, reading, strict_json
from heat_workflow.taskqueue import logs, sizes
from tests.docs.pages import ADMIN

TEXT = " ".join((ADMIN / "limits.rst").read_text().split())
KIB, MIB = 1024, 1024 * 1024
MAX_WAIT = next(option.default for option in conf.API if option.name == "max_wait")


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
    ],
)
def test_a_limit_is_told_as_it_is(phrase: str) -> None:
    assert phrase in TEXT.replace(" * - ", " - ")
