# SPDX-License-Identifier: Apache-2.0
"""How a loop is, by what happened to it and when; and what of it is logged."""

from __future__ import annotations

import logging

import pytest

from heat_workflow import errors
from heat_workflow.loops import Loop, LoopHealth


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("steady", "story", "health", "failures"),
    [
        (True, "", LoopHealth.OK, 0),
        (True, "wait", LoopHealth.LATE, 0),  # it never came to its end
        (True, "wait finish", LoopHealth.OK, 0),
        (True, "finish wait", LoopHealth.LATE, 0),
        (True, "fail", LoopHealth.FAILING, 1),
        (True, "fail finish", LoopHealth.FAILING, 1),  # shown for a minute
        (True, "fail finish wait finish wait finish", LoopHealth.OK, 1),
        (True, "fail wait fail wait", LoopHealth.LATE, 2),
        (False, "wait", LoopHealth.OK, 0),  # nothing to do
        (False, "begin", LoopHealth.OK, 0),
        (False, "begin wait", LoopHealth.LATE, 0),
        (False, "begin wait begin", LoopHealth.LATE, 0),
        (False, "begin finish wait", LoopHealth.OK, 0),
        (False, "begin fail wait", LoopHealth.FAILING, 1),
        (False, "begin fail wait wait", LoopHealth.OK, 1),
    ],
)
def test_g28_how_a_loop_is(steady: bool, story: str, health: LoopHealth, failures: int) -> None:
    clock = Clock()
    loop = Loop("x", steady=steady, clock=clock)
    for word in story.split():
        if word == "wait":
            clock.now += 31
        elif word == "fail":
            with loop.round():
                raise ValueError
        else:
            getattr(loop, word)()
    seen = loop.seen()
    assert (seen.health, seen.failures) == (health, failures)


def test_g28_a_kind_of_error_is_logged_with_its_traceback_once_then_in_a_line_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    loop = Loop("x", clock=clock, expected=(TimeoutError,))
    for raised, pause in [
        (KeyError("a"), 1),
        (KeyError("a"), 1),
        (errors.Unavailable("the store is out of reach"), 1),
        (errors.Unavailable("the store is out of reach"), 60),
        (KeyError("a"), 1),
        (TimeoutError("b"), 1),
    ]:
        with loop.round():
            raise raised
        clock.now += pause
    said = [(record.levelno, bool(record.exc_info), record.getMessage()) for record in caplog.records]
    assert said == [
        (logging.ERROR, True, "Background loop x met an error and goes on (1 so far)"),
        (logging.WARNING, False, "Background loop x goes on after the store is out of reach (3 errors so far)"),
        (logging.WARNING, False, "Background loop x goes on after KeyError (5 errors so far)"),
        (logging.WARNING, False, "Background loop x goes on after TimeoutError (6 errors so far)"),
    ]


def test_g28_a_cancel_is_no_error() -> None:
    loop = Loop("x")
    with pytest.raises(KeyboardInterrupt), loop.round():
        raise KeyboardInterrupt
    assert loop.seen().failures == 0
