# SPDX-License-Identifier: Apache-2.0
"""Turns: what one trivial task costs on each database: CPU of API, database and load, beside the rate; who was put off.

A turn is the report of one task with the claim of the next. CPU time and ratios within one run can be trusted on a
busy machine, rates less so. The cases alternate; each figure is the median of its rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from benchmarks.fleet import throughput
from benchmarks.process import cpu_with_children
from benchmarks.table import Row, show
from heat_workflow.store import schema
from tests.harness import databases
from tests.harness.databases import MariaDb, PostgreSql
from tests.harness.servers import ApiProcess

AGENTS = 64
ROUNDS = 3
WORKFLOWS = 6
BATCH = 50  # small, so that the workflows are mixed
TASKS = {"SQLite": 3000, "PostgreSQL": 2000, "MariaDB": 2000}
_DEADLOCKS = {
    "PostgreSQL": "SELECT sum(deadlocks) FROM pg_stat_database",
    "MariaDB": "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_DEADLOCKS'",
}


@dataclasses.dataclass(frozen=True)
class Round:
    """One round of one case; CPU in milliseconds per task."""

    rate: float
    api: float
    database: float
    load: float
    deadlocks: int
    put_off: int


class Case:
    """API processes on one database; ``server`` is None for SQLite, whose work is done in the API process."""

    def __init__(
        self, kind: str, replicas: Sequence[ApiProcess], server: PostgreSql | MariaDb | None, url: str
    ) -> None:
        self.kind = kind
        self.name = kind if server is None else f"{kind}, {len(replicas)} API process{'es' * (len(replicas) > 1)}"
        self._replicas = replicas
        self._server = server
        self._url = url
        self.rounds: list[Round] = []

    def measure(self) -> None:
        tasks = TASKS[self.kind]
        before = self._used()
        pace = asyncio.run(throughput([api.port for api in self._replicas], AGENTS, tasks, BATCH, WORKFLOWS))
        api, database, load, deadlocks = (now - then for now, then in zip(self._used(), before, strict=True))
        api, database, load = (1000 * seconds / tasks for seconds in (api, database, load))
        self.rounds.append(Round(pace.rate, api, database, load, int(deadlocks), pace.put_off))

    def _used(self) -> tuple[float, float, float, float]:
        """Seconds of CPU of the API, the database and this process, and the deadlocks by the server's count."""
        api = sum(cpu_with_children(replica.pid) for replica in self._replicas)
        if self._server is None:
            return api, 0.0, time.process_time(), 0
        return api, cpu_with_children(self._server.pid), time.process_time(), self._deadlocks()

    def _deadlocks(self) -> int:
        engine = sa.create_engine(self._url)
        with engine.connect() as connection:
            count = int(connection.exec_driver_sql(_DEADLOCKS[self.kind]).scalar_one())
        engine.dispose()
        return count

    def rows(self) -> list[Row]:
        def middle(field: str) -> float:
            return float(statistics.median(getattr(one, field) for one in self.rounds))

        rows = [
            Row(f"{self.name}: rate", middle("rate"), "tasks/s"),
            Row(f"{self.name}: CPU of the API", middle("api"), "ms/task"),
            Row(f"{self.name}: CPU of the load", middle("load"), "ms/task"),
            Row(f"{self.name}: answers 503", sum(one.put_off for one in self.rounds), "", 0),
        ]
        if self._server is not None:
            rows.insert(2, Row(f"{self.name}: CPU of the database", middle("database"), "ms/task"))
            rows.append(Row(f"{self.name}: deadlocks", sum(one.deadlocks for one in self.rounds), "", 0))
        return rows


@contextlib.contextmanager
def replicas(directory: Path, url: str, count: int) -> Iterator[list[ApiProcess]]:
    """So many API processes on the store, with one key ring."""
    made = [ApiProcess(directory / f"api-{n}", url) for n in range(count)]
    for other in made[1:]:
        (other.directory / "keys.json").write_text((made[0].directory / "keys.json").read_text())
    try:
        for replica in made:
            replica.start()
        yield made
    finally:
        for replica in made:
            replica.stop()


def run() -> None:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{directory}/store.sqlite"
        cases = [Case("SQLite", stack.enter_context(replicas(directory / "sqlite", url, 1)), None, url)]
        for kind, server_type in (("PostgreSQL", PostgreSql), ("MariaDB", MariaDb)):
            server = stack.enter_context(databases.running(server_type))
            for count in (1, 2):
                url = server.new_database(f"bench{count}")
                schema.sync(url)
                place = directory / f"{kind}-{count}"
                cases.append(Case(kind, stack.enter_context(replicas(place, url, count)), server, url))
        for _ in range(ROUNDS):
            for case in cases:
                case.measure()
    for case in cases:
        show(f"One trivial task, {AGENTS} simulated agents, {WORKFLOWS} workflows: {case.name}", case.rows())
