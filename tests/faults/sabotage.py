# SPDX-License-Identifier: Apache-2.0
"""Sabotage: what is done to an API process before it starts. For tests alone; each function is called in the child."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from heat_workflow.api import app, limits, reading
from heat_workflow.cmd.protocol import BoundedProtocol
from heat_workflow.store import tables
from heat_workflow.store.clock import DatabaseClock
from heat_workflow.store.statements import tasks as statements
from heat_workflow.wakeup import Wakeups


def without_fence() -> None:
    """The negative control: a task's row is written whatever became of it since it was read."""

    @functools.cache
    def unfenced(*changed: str) -> sa.Update:
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in changed or ("state",)}
        return sa.update(tables.task).where(tables.task.c.id == sa.bindparam("key")).values(values)

    statements.save_task = unfenced


def deaf() -> None:
    """Every wake-up is lost, those from other replicas too."""

    def lose(self: Wakeups, keys: Mapping[str, int]) -> None:
        return None

    Wakeups.publish = lose  # type: ignore[method-assign]


def in_a_hurry() -> None:
    """What is overdue is seen at once, and a test may ask as often as it likes."""
    app._EXPIRE_EVERY = 0.02
    for name in ("EMPTY_CLAIMS", "HEARTBEATS", "REFUSALS", "ROTATIONS", "SESSIONS"):
        setattr(limits, name, limits.Rate(10_000, 10_000))


def ten_minutes_ahead() -> None:
    _skew(600)


def ten_minutes_behind() -> None:
    _skew(-600)


def _skew(seconds: float) -> None:
    """This replica's own clocks, the wall's and the monotonic one, differ from everybody else's."""
    wall, monotonic = time.time, time.monotonic
    time.time = lambda: wall() + seconds
    time.monotonic = lambda: monotonic() + seconds
    DatabaseClock.__init__.__defaults__ = (time.monotonic,)


def without_patience() -> None:
    """Slow peers are let go after a second and a half instead of half a minute."""
    BoundedProtocol.head_seconds = 1.5
    reading.read_body.__defaults__ = (1.5,)
