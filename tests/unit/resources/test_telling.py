# SPDX-License-Identifier: Apache-2.0
"""What reasons and stack events say of tasks, case by case."""

from __future__ import annotations

from typing import Any, cast

import pytest

from heat_workflow import model
from heat_workflow.resources import group, slots, telling
from heat_workflow.shapes import Task


def task(state: str, reason: str = "", **more: Any) -> Task:
    made = {
        "id": "1",
        "name": "web/a",
        "state": state,
        "status_reason": reason,
        "attempt": 1,
        "max_attempts": 1,
        **more,
    }
    return cast(Task, made)


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (
            "timed_out",
            "timed out: it ran longer than its timeout of 5 s",
            "timed out: it ran longer than its timeout of 5 s",
        ),
        ("timed_out", "no agent picked it up", "timed out: no agent picked it up"),
        ("cancelled", "cancelled", "cancelled"),
        ("cancelled", "cancelled; agent x did not confirm", "cancelled: agent x did not confirm"),
        ("cancelled", "its owner deleted it", "cancelled: its owner deleted it"),
        ("skipped", "", "skipped"),
    ],
)
def test_nothing_is_said_twice(state: str, reason: str, said: str) -> None:
    assert slots.why(task(state, reason)) == said


def failures(**states: str) -> str:
    bad = {name: task(state, "why", server=f"id-{name}") for name, state in states.items()}
    return group._failures(bad, 3)


def test_a_group_counts_failures_alone_and_says_which_servers_were_not_begun() -> None:
    assert failures(a="failed", b="skipped", c="skipped") == (
        "failed on 1 of 3 servers: a (id-a) failed: why; not begun on 2: b, c"
    )
    assert failures(a="failed", b="timed_out") == (
        "failed on 2 of 3 servers: a (id-a) failed: why; b (id-b) timed out: why"
    )
    assert failures(a="failed", b="cancelled") == (
        "failed on 1 of 3 servers: a (id-a) failed: why; b (id-b) cancelled: why"
    )
    assert (
        failures(a="cancelled", b="skipped")
        == "was ended on 1 of 3 servers: a (id-a) cancelled: why; not begun on 1: b"
    )
    assert failures(a="skipped") == "not begun on 1: a"


def attempt(number: int, result: str, code: int | None = 1, reason: str = "exit code 1: no luck") -> dict[str, Any]:
    return {"attempt": number, "result": result, "reason": reason, "deploy_status_code": code}


def test_each_failed_attempt_that_is_followed_by_another_is_told_once() -> None:
    tried = [attempt(1, "failed"), attempt(2, "timed_out", None, reason="timed out: it ran longer than 5 s")]
    told: dict[str, int] = {}
    shown = task("waiting", attempt=1, max_attempts=3, retry_delay=2.0)
    first = "task web/a: attempt 1 of 3 failed with exit code 1: no luck, next try in 2 s"
    assert telling.news_of_attempts([shown], told, lambda _: tried[:1]) == [first]
    assert telling.news_of_attempts([shown], told, lambda _: pytest.fail("nothing is new")) == []
    running = task("leased", attempt=2, max_attempts=3, retry_delay=2.0)
    assert telling.news_of_attempts([running], told, lambda _: pytest.fail("nothing is new")) == []
    over = task("succeeded", attempt=3, max_attempts=3, retry_delay=2.0)
    second = "task web/a: attempt 2 of 3 timed out: it ran longer than 5 s, next try in 4 s"
    last = attempt(3, "succeeded", 0)
    assert telling.news_of_attempts([over], told, lambda _: [*tried, last]) == [second]
    assert telling.news_of_attempts([over], {}, lambda _: [*tried, last]) == [first, second]


def test_the_last_attempt_is_the_failure_itself_and_lost_ones_are_no_failures() -> None:
    failed = task("failed", attempt=2, max_attempts=2)
    lost = [attempt(1, "lost", None), attempt(2, "failed")]
    assert telling.news_of_attempts([failed], {}, lambda _: lost) == []
    once = task("failed", attempt=1, max_attempts=1)
    assert telling.news_of_attempts([once], {}, lambda _: pytest.fail("there was one")) == []


def test_the_delay_stops_doubling_where_the_api_stops() -> None:
    assert telling.RETRY_DELAY_MOST == model.RETRY_DELAY_MOST
    late = task("waiting", attempt=12, max_attempts=20, retry_delay=60.0)
    (said,) = telling.failed_attempts(late, [attempt(12, "failed")], 11)
    assert said.endswith("next try in 3600 s")


def test_what_was_not_told_because_the_api_went_away_is_told_later() -> None:
    told: dict[str, int] = {}
    two = [task("waiting", attempt=1, max_attempts=2), task("waiting", attempt=1, max_attempts=2, id="2")]

    def goes_away(one: Task) -> list[dict[str, Any]]:
        return [attempt(1, "failed")] if one["id"] == "1" else [attempt(1 // 0, "failed")]

    with pytest.raises(ZeroDivisionError):
        telling.news_of_attempts(two, told, goes_away)
    assert len(telling.news_of_attempts(two, told, lambda _: [attempt(1, "failed")])) == 2


def test_what_a_success_has_to_say_is_told() -> None:
    big = "output big left out: too large, 300000 bytes of 262144"
    told = telling.notes([task("succeeded", big), task("succeeded"), task("failed", big)])
    assert told == [f"task web/a succeeded; {big}"]


@pytest.mark.parametrize(
    ("undo", "said"),
    [
        (task("succeeded"), None),
        (task("leased"), None),
        (
            task("failed", "exit code 4: cannot take back", name="undo of b", server="s", deploy_status_code=4),
            "undo of b on server s failed with exit code 4: cannot take back",
        ),
        (task("cancelled", "cancelled", name="undo of b"), "undo of b cancelled"),
    ],
)
def test_an_undo_that_failed_is_told(undo: Task, said: str | None) -> None:
    assert telling.undo_failure(undo) == said


def test_who_waits_for_a_dead_server_is_told_whose_limit_it_was() -> None:
    reason = "no agent picked it up within 60 s (pickup_timeout); agent never enrolled"
    theirs, ours = task("timed_out", reason, pickup_timeout=5.0), task("timed_out", reason, pickup_timeout=60.0)
    assert slots.why_lost(theirs, 60) == reason
    assert slots.why_lost(ours, 60) == (
        "no agent picked it up within 60 s ([heat_workflow] delete_wait of heat-engine: a dead server does not hold "
        "up what is deleted); agent never enrolled"
    )
