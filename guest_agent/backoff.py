# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying again: growing, with full jitter, never against the API's own wish."""

from __future__ import annotations

import random

FIRST = 1.0
GROWTH = 1.5
MOST = 60.0
LONGEST_WISH = MOST  # a faulty answer must not silence an agent for longer than it would be silent by itself


class Backoff:
    """Delays between 1 and 60 s; the bound grows by half with each failure in a row.

    Not by doubling: an API that restarts is away for some seconds, and doubling would make that ten or twenty.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def succeeded(self) -> None:
        """The next failure is a first one again."""
        self._failures = 0

    def failed(self, retry_after: float | None) -> float:
        """Seconds to wait after one more failure, at least ``retry_after`` as far as that is believed."""
        self._failures = min(self._failures + 1, 100)
        bound = min(MOST, FIRST * GROWTH**self._failures)
        delay = self._rng.uniform(FIRST, bound)
        if retry_after is None:
            return delay
        wish = min(retry_after, LONGEST_WISH)
        return max(delay, wish + self._rng.uniform(0.0, min(FIRST, wish)))
