# SPDX-License-Identifier: Apache-2.0
"""Harness: what goes wrong on purpose: replicas are killed, the passing of time is brought forward."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from heat_workflow.store import tables
from tests.harness.databases import DatabaseServer
from tests.harness.replicas import Replica

_C = tables.task.c
_TIMES = ("created_at", "ready_at", "started_at", "not_before", "lease_until", "cancel_until", "deadline_at", "due_at")


class Killer(threading.Thread):
    """kill -9 of a random replica again and again, each started anew at once.

    Each kill waits until somebody was answered since the one before, by ``answers``: on a slow machine a replica that
    is killed as soon as it listens answers nobody, and callers run out of patience. It ends after so many ``kills``,
    or ``within`` so many seconds.
    """

    def __init__(
        self,
        replicas: list[Replica],
        kills: int,
        seed: int,
        pause: tuple[float, float],
        answers: Callable[[], int],
        within: float,
    ) -> None:
        super().__init__(name="killer", daemon=True)
        self._replicas = replicas
        self._random = random.Random(seed)
        self._pause = pause
        self._left = kills
        self._answers = answers
        self._within = within
        self.kills = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        until = time.monotonic() + self._within
        try:
            while self.kills < self._left and time.monotonic() < until:
                heard = self._answers()
                time.sleep(self._random.uniform(*self._pause))
                while self._answers() == heard and time.monotonic() < until:
                    time.sleep(0.005)
                replica = self._random.choice(self._replicas)
                replica.kill()
                self.kills += 1
                replica.start()
        except BaseException as exc:  # shown by the thread that waits for this one
            self.error = exc


def kill_and_restart(server: DatabaseServer) -> None:
    """kill -9 of a database server, and the start that recovers it."""
    server.kill()
    deadline = time.monotonic() + 60
    while True:
        try:
            server.start()
        except AssertionError:  # its orphaned processes still hold its memory
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def open_transactions(url: str) -> int:
    """How many transactions hold rows of the database's server and do nothing."""
    engine = sa.create_engine(url)
    idle = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND state = 'idle in transaction' AND backend_xid IS NOT NULL",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
        "ON id = trx_mysql_thread_id WHERE command = 'Sleep' AND trx_rows_modified > 0",
    }
    with engine.connect() as connection:
        found = int(connection.exec_driver_sql(idle[engine.dialect.name]).scalar_one())
    engine.dispose()
    return found


def let_pass(url: str, seconds: float, workflow_id: str) -> None:
    """Make it later for the tasks of one workflow: each of their moments moves into the past."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA busy_timeout=20000")
        values = {name: _C[name] - seconds for name in _TIMES}
        connection.execute(sa.update(tables.task).where(_C.workflow_id == workflow_id).values(values))
    engine.dispose()


def settled(url: str, workflow_id: str, within: float = 10) -> None:
    """Return once the API has done what was overdue in the workflow."""
    engine = sa.create_engine(url)
    overdue = sa.select(sa.func.count()).where(_C.workflow_id == workflow_id, _C.due_at <= time.time())
    deadline = time.monotonic() + within
    with engine.connect() as connection:
        while connection.execute(overdue).scalar_one():
            connection.rollback()
            assert time.monotonic() < deadline, f"tasks of workflow {workflow_id} stay overdue"
            time.sleep(0.01)
    engine.dispose()
