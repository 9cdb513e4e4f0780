# SPDX-License-Identifier: Apache-2.0
"""Clock: the database's time without a question per transaction.

Replicas' own clocks may be minutes apart; the database's is one. So its distance to this process's monotonic clock is
measured now and then, and added.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

_MEASURE_EVERY = 10.0  # seconds; a quartz drifts a fraction of a millisecond meanwhile


class DatabaseClock:
    """Seconds since the epoch by the database's clock."""

    def __init__(self, query: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._query = query
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._distance = 0.0
        self._measured_at: float | None = None

    def now(self, connection: sa.Connection) -> float:
        here = self._monotonic()
        if self._measured_at is None or here - self._measured_at > _MEASURE_EVERY:
            self._measure(connection)
        return self._monotonic() + self._distance

    def _measure(self, connection: sa.Connection) -> None:
        before = self._monotonic()
        there = float(connection.exec_driver_sql(self._query).scalar_one())
        after = self._monotonic()
        with self._lock:
            self._distance = there - (before + after) / 2
            self._measured_at = after
