# SPDX-License-Identifier: Apache-2.0
"""Verdicts on tokens: how long they are believed, and who may wait for new ones."""

from __future__ import annotations

import asyncio
import threading

import pytest

from heat_workflow import errors
from heat_workflow.api.limits import TOKENS_AT_ONCE, TOKENS_MOST, TOKENS_WAITING
from heat_workflow.api.verdicts import Lanes, Operator, Verdicts

OPERATOR = Operator("u", "p", ["member"])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "ends", "after", "kept"),
    [
        (300, 5000, 299, True),
        (300, 5000, 300, False),
        (300, 1010, 9, True),
        (300, 1010, 10, False),
        (-1, 5000, 0, False),
    ],
)
def test_a_verdict_is_believed_for_its_time_and_no_longer_than_its_token(
    seconds: float, ends: float, after: float, kept: bool
) -> None:
    clock = Clock()
    verdicts = Verdicts(seconds, clock)
    verdicts.keep("k", OPERATOR, ends, None)
    clock.now += after
    assert (verdicts.find("k", "GET", "/x") is OPERATOR) is kept
    assert verdicts.knows("k")
    assert not verdicts.knows("another")


def test_what_holds_for_one_path_holds_for_no_other() -> None:
    verdicts = Verdicts(300, Clock())
    verdicts.keep("k", OPERATOR, 5000, ("GET", "/x"))
    assert verdicts.find("k", "GET", "/x") is OPERATOR
    assert verdicts.find("k", "GET", "/y") is None
    assert verdicts.find("k", "POST", "/x") is None


async def test_s72_new_tokens_are_bounded_by_source_and_altogether_and_known_ones_pass() -> None:
    lanes, slow = Lanes(), threading.Event()
    held = [asyncio.ensure_future(lanes.run(False, "a", slow.wait)) for _ in range(TOKENS_WAITING)]
    try:
        await asyncio.sleep(0)
        with pytest.raises(errors.TooMany) as refused:
            await lanes.run(False, "a", int)
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
        assert await lanes.run(True, "a", int) == 0
        assert TOKENS_AT_ONCE < TOKENS_WAITING
        assert await asyncio.wait_for(lanes.run(False, "b", int), 10) == 0, "another source waits for the first"
        for n in range(TOKENS_MOST // TOKENS_WAITING - 1):
            held += [asyncio.ensure_future(lanes.run(False, str(n), slow.wait)) for _ in range(TOKENS_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(errors.Unavailable):
            await lanes.run(False, "c", int)
        assert await lanes.run(True, "c", int) == 0
    finally:
        slow.set()
        await asyncio.gather(*held)
    assert await lanes.run(False, "a", int) == 0
