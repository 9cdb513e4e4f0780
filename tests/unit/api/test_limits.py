# SPDX-License-Identifier: Apache-2.0
"""Limits: what passes, what waits and for how long, on a clock that the test turns."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heat_workflow import errors
from heat_workflow.api.limits import (
    AUDITS,
    EMPTY_CLAIMS,
    HEARTBEATS,
    REFUSALS,
    WRONG_JOIN_TOKENS,
    Limits,
    Meter,
    Rate,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Limits:
    return Limits(clock, jitter=lambda: 0.5)


def test_a_burst_passes_and_then_the_rate(clock: Clock) -> None:
    meter = Meter(Rate(2.0, 3), clock)
    for _ in range(3):
        assert meter.seconds_over("a") == 0
        meter.count("a")
    assert meter.seconds_over("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert meter.seconds_over("a") == 0
    meter.count("a")
    assert meter.seconds_over("a") == pytest.approx(0.5)


def test_one_key_is_not_another(clock: Clock) -> None:
    meter = Meter(Rate(1.0, 1), clock)
    meter.count("a")
    assert meter.seconds_over("a") > 0
    assert meter.seconds_over("b") == 0


def test_a_flood_is_forgiven_as_soon_as_it_ends(clock: Clock) -> None:
    meter = Meter(Rate(1.0, 5), clock)
    for _ in range(1000):
        meter.count("a")
    assert meter.seconds_over("a") <= 1
    clock.now += 5
    assert meter.seconds_over("a") == 0


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_no_more_passes_than_burst_and_rate_allow(pauses: list[float]) -> None:
    clock, rate = Clock(), Rate(0.5, 4)
    meter = Meter(rate, clock)
    began, passed = clock.now, 0
    for pause in pauses:
        clock.now += pause
        if meter.seconds_over("a") == 0:
            meter.count("a")
            passed += 1
    assert passed <= rate.burst + (clock.now - began) * rate.per_second + 1e-6


def test_a_meter_remembers_a_bounded_number_of_keys(clock: Clock) -> None:
    meter = Meter(Rate(0.001, 1), clock, keys_most=50)
    for number in range(1000):
        meter.count(str(number))
    assert sum(meter.seconds_over(str(number)) > 0 for number in range(1000)) <= 50
    assert meter.seconds_over("999") > 0


def test_keys_that_are_whole_again_are_forgotten(clock: Clock) -> None:
    meter = Meter(Rate(1.0, 1), clock)
    for number in range(100):
        meter.count(str(number))
        clock.now += 10
    assert len(vars(meter)["_whole_at"]) <= 2


def test_empty_claims_count_unless_they_waited(limits: Limits, clock: Clock) -> None:
    for _ in range(100):
        with limits.claiming("waits"):
            clock.now += 1.0
    assert limits.empty_claims_over("waits") == 0
    for _ in range(EMPTY_CLAIMS.burst):
        assert limits.empty_claims_over("hurries") == 0
        with limits.claiming("hurries"):
            pass
    assert limits.empty_claims_over("hurries") == pytest.approx(1.0)


def test_claims_that_give_work_do_not_count(limits: Limits) -> None:
    for _ in range(100):
        with limits.claiming("works") as gave_work:
            gave_work()
    assert limits.empty_claims_over("works") == 0


def test_claims_that_wait_together_count_together(limits: Limits, clock: Clock) -> None:
    with contextlib.ExitStack() as waiting:
        for _ in range(EMPTY_CLAIMS.burst):
            assert limits.empty_claims_over("many") == 0
            waiting.enter_context(limits.claiming("many"))
        assert limits.empty_claims_over("many") > 0
        clock.now += 30
    assert limits.empty_claims_over("many") == 0


def test_a_claim_that_failed_counts(limits: Limits) -> None:
    for _ in range(EMPTY_CLAIMS.burst):
        with contextlib.suppress(errors.Conflict), limits.claiming("superseded"):
            raise errors.Conflict("a newer claim")
    assert limits.empty_claims_over("superseded") > 0


def test_heartbeats_are_counted_by_task(limits: Limits) -> None:
    for _ in range(HEARTBEATS.burst):
        limits.admit_heartbeat("a", "t1")
    with pytest.raises(errors.TooMany) as refused:
        limits.admit_heartbeat("a", "t1")
    assert refused.value.retry_after == pytest.approx(2 + 1 + 2 * 0.5)
    limits.admit_heartbeat("a", "t2")


def test_an_agent_that_was_refused_too_often_waits(limits: Limits, clock: Clock) -> None:
    for _ in range(REFUSALS.burst):
        limits.admit_agent("a")
        limits.count_refusal("a")
    with pytest.raises(errors.TooMany):
        limits.admit_agent("a")
    limits.admit_agent("b")
    clock.now += 1
    limits.admit_agent("a")


def test_wrong_join_tokens_are_counted_by_source_and_by_agent(limits: Limits) -> None:
    for number in range(WRONG_JOIN_TOKENS.burst):
        limits.count_wrong_join_token("10.0.0.1", f"agent-{number}")
    with pytest.raises(errors.TooMany):
        limits.count_wrong_join_token("10.0.0.1", "another")
    for number in range(WRONG_JOIN_TOKENS.burst):
        limits.count_wrong_join_token(f"10.0.1.{number}", "one")
    with pytest.raises(errors.TooMany):
        limits.count_wrong_join_token("10.0.2.1", "one")
    limits.count_wrong_join_token("10.0.2.1", "two")


def test_only_the_first_security_events_of_a_kind_are_worth_a_row(limits: Limits, clock: Clock) -> None:
    kept = [limits.admit_audit("a", "refused") for _ in range(100)]
    assert kept == [True] * AUDITS.burst + [False] * (100 - AUDITS.burst)
    assert limits.admit_audit("a", "join-token-reused")
    clock.now += 60
    assert limits.admit_audit("a", "refused")


@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_callers_are_sent_away_for_different_times(clock: Clock, jitter: float) -> None:
    refused = Limits(clock, jitter=lambda: jitter).too_many("too fast", 2.0)
    assert refused.retry_after == pytest.approx(3.0 + 2 * jitter)
