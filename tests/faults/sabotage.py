# SPDX-License-Identifier: Apache-2.0
"""Sabotage: what is done to an API process before it starts. For tests alone; each function is called in the child."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from heat_workflow import failpoints, loops, model
from heat_workflow.api import app, limits, reading
from heat_workflow.cmd.protocol import BoundedProtocol
from heat_workflow.store import Asks, Tx, tables, writer
from heat_workflow.store.clock import DatabaseClock
from heat_workflow.store.group import lane
from heat_workflow.store.sqlserver import ServerStore
from heat_workflow.store.statements import tasks as statements
from heat_workflow.store.transaction import SqlTx
from heat_workflow.wakeup import Wakeups


def without_fence() -> None:
    """The negative control: nobody holds the workflow, and a task's row is written whatever became of it since it was
    read. A group reads after it has locked; here each turn runs by itself and locks nothing."""

    @functools.cache
    def unfenced(*changed: str) -> sa.Update:
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in changed or ("state",)}
        return sa.update(tables.task).where(tables.task.c.id == sa.bindparam("key")).values(values)

    def without_lock(tx: SqlTx, project_id: str, workflow_id: str) -> model.Workflow | None:
        return tx.find_workflow(project_id, workflow_id)

    async def by_itself(store: ServerStore, _asks: Asks, fn: Callable[[Tx], Any]) -> Any:
        return await store.write(fn)

    statements.save_task = unfenced
    SqlTx.lock_workflow = without_lock  # type: ignore[method-assign,assignment]
    ServerStore.turn = by_itself  # type: ignore[method-assign,assignment]


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


def slow_to_write() -> None:
    """The first commit of a write takes three seconds, and half a second is late."""
    waits = iter([3.0])
    usual = failpoints.failpoint

    def slowly(name: str) -> None:
        if name == "commit.before":
            time.sleep(next(waits, 0.0))
        usual(name)

    loops.LATE = 0.5
    writer.failpoint = lane.failpoint = slowly  # type: ignore[attr-defined]
