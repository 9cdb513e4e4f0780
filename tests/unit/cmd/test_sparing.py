# SPDX-License-Identifier: Apache-2.0
"""Sparing: what repeats is left out of the log, counted, and told; nothing else is."""

from __future__ import annotations

import logging
import sys

from heat_workflow.cmd.sparing import ALIKE_MOST, LOGGER_MOST, WINDOW, Sparing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(message: str, level: int = logging.WARNING, name: str = "a") -> logging.LogRecord:
    try:
        raise ValueError(message)
    except ValueError:
        return logging.LogRecord(name, level, __file__, 1, message, (), sys.exc_info())


def test_s75_of_a_flood_a_few_are_kept_and_the_rest_is_told() -> None:
    clock = Clock()
    sparing = Sparing(clock)
    flood = [record("again") for _ in range(1000)]
    kept = [one for one in flood if sparing.filter(one)]
    assert kept == flood[:ALIKE_MOST]
    assert [one.exc_info is not None for one in kept] == [True] + [False] * (ALIKE_MOST - 1)
    clock.now = WINDOW
    later = record("again")
    assert sparing.filter(later)
    assert "990 warnings and errors were left out" in later.getMessage()
    assert later.exc_info is not None


def test_s75_messages_that_differ_are_bounded_by_logger() -> None:
    sparing = Sparing(Clock())
    assert sum(sparing.filter(record(str(number))) for number in range(5000)) == LOGGER_MOST
    assert sparing.filter(record("of another", name="b"))


def test_s75_what_is_no_warning_is_kept_but_of_refused_tokens() -> None:
    sparing = Sparing(Clock())
    assert all(sparing.filter(record("again", logging.INFO)) for _ in range(1000))
    refused = [record("Rejecting request", logging.INFO, "keystonemiddleware.auth_token") for _ in range(1000)]
    assert sum(map(sparing.filter, refused)) == ALIKE_MOST
