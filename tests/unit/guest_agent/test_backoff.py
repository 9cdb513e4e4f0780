# SPDX-License-Identifier: Apache-2.0
"""Back-off: bounded, jittered, obedient."""

from __future__ import annotations

import random

from guest_agent.backoff import Backoff


def test_delays_grow_from_one_second_to_at_most_sixty_and_differ() -> None:
    backoff = Backoff(random.Random(1))
    delays = [backoff.failed(None) for _ in range(200)]
    assert delays[0] <= 2
    assert all(1 <= delay <= 60 for delay in delays)
    assert max(delays) > 50
    assert len(set(delays)) == 200


def test_success_begins_anew() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(20):
        backoff.failed(None)
    backoff.succeeded()
    assert backoff.failed(None) <= 2


def test_s80_the_wish_of_the_api_is_a_lower_bound_as_far_as_a_minute() -> None:
    backoff = Backoff(random.Random(1))
    assert 30 <= backoff.failed(30.0) <= 31
    for wish in (3600.0, 1e9, float("inf")):
        assert 60 <= backoff.failed(wish) <= 61
