# SPDX-License-Identifier: Apache-2.0
"""Faults of the database: what was acknowledged stays, what was not can be repeated (F9, F26, F27, F29, G13, G14)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from heat_workflow import errors, model
from heat_workflow.store import Store, Tx
from heat_workflow.taskqueue import adding
from tests.harness import facts
from tests.harness.cutting import replica_behind
from tests.harness.databases import DatabaseServer
from tests.harness.stores import Database, Ears, insert, together


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_f26_a_killed_server_loses_nothing_that_was_acknowledged(
    kind: str, database_of: Callable[[str], Database], request: pytest.FixtureRequest
) -> None:
    database = database_of(kind)
    server: DatabaseServer = request.getfixturevalue(kind)
    acknowledged: list[str] = []
    refused: list[errors.Unavailable] = []
    async with database.replica() as (store, _), database.replica() as (_other, ears):

        async def write_on(until: asyncio.Event) -> None:
            while not until.is_set():
                workflow = facts.workflow()
                while not await _tried(store, workflow, refused):
                    await asyncio.sleep(0.05)
                acknowledged.append(workflow.id)

        done = asyncio.Event()
        writers = [asyncio.create_task(write_on(done)) for _ in range(8)]
        await _reached(acknowledged, 100)
        await asyncio.to_thread(_kill_and_restart, server)
        await _reached(acknowledged, len(acknowledged) + 100)
        done.set()
        await asyncio.gather(*writers)
        kept = await store.read(lambda tx: tx.list_workflows(facts.PROJECT, {}, None, 10**6))
        assert set(acknowledged) <= {workflow.id for workflow in kept}
        assert len(kept) == len(acknowledged)
        assert refused
        await _hears_again(store, ears)


async def _tried(store: Store, workflow: model.Workflow, refused: list[errors.Unavailable]) -> bool:
    try:
        await store.write(lambda tx: tx.insert_workflow(workflow))
    except errors.Unavailable as exc:
        refused.append(exc)
        return False
    return True


async def _reached(acknowledged: list[str], count: int) -> None:
    async with asyncio.timeout(60):
        while len(acknowledged) < count:
            await asyncio.sleep(0.01)


def _kill_and_restart(server: DatabaseServer) -> None:
    server.kill()
    for attempt in range(60):  # the processes of the killed server still hold its memory for a moment
        try:
            server.start()
        except AssertionError:
            if attempt == 59:
                raise
            time.sleep(0.25)
        else:
            return


async def _hears_again(store: Store, ears: Ears) -> None:
    async with asyncio.timeout(30):
        while "again" not in ears.keys:
            await store.write(lambda tx: tx.wake("again"))
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("after", [False, True], ids=["commit lost", "answer lost"])
async def test_f27_a_connection_cut_in_commit_is_settled_by_repeating(shared: Database, after: bool) -> None:
    async with replica_behind(shared) as (proxy, store):
        for n in range(1, 6):
            workflow = facts.workflow()
            await insert(store, workflows=[workflow])
            request = model.NewTask(name="t", definition=facts.DEFINITION, spec={}, id=facts.new_id())

            def add(tx: Tx, workflow: model.Workflow = workflow, request: model.NewTask = request) -> bool:
                return adding.add_tasks(tx, facts.PROJECT, workflow.id, [request])[1]

            proxy.arm(b"task-added", b"COMMIT", after)  # a value: the statement itself may be prepared
            with pytest.raises(errors.Unavailable):
                await store.write(add)
            assert proxy.cuts == n
            assert await store.write(add) is not after
            events = await store.read(lambda tx, w=workflow: tx.list_events(w.id, 0, 99))  # type: ignore[misc]
            assert [event.type for event in events] == ["task-added", "task-ready"]


async def test_f9_a_replica_that_stops_in_a_transaction_holds_its_locks_for_seconds_only(shared: Database) -> None:
    workflow = facts.workflow()
    async with shared.replica() as (stopped, _), shared.replica() as (other, _):
        await insert(other, workflows=[workflow])
        loop = asyncio.get_running_loop()
        locked, go_on = asyncio.Event(), asyncio.Event()
        seen: list[str] = []

        def stop(tx: Tx) -> None:
            found = tx.lock_workflow(facts.PROJECT, workflow.id)
            assert found is not None
            seen.append(found.name)
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
            tx.save_workflow(dataclasses.replace(found, name="too late"))

        def change(tx: Tx) -> None:
            found = tx.lock_workflow(facts.PROJECT, workflow.id)
            assert found is not None
            tx.save_workflow(dataclasses.replace(found, name="in time"))

        stopping = asyncio.create_task(stopped.write(stop))
        await locked.wait()
        before = loop.time()
        await other.write(change)
        assert loop.time() - before < 7
        go_on.set()
        (outcome,) = await together(stopping)
        found = await other.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id))
        assert found is not None
        # What it did before it stopped is gone. It is refused, or it runs anew on what the other one wrote.
        if isinstance(outcome, errors.Unavailable):
            assert found.name == "in time"
        else:
            assert outcome is None
            assert seen == [workflow.name, "in time"]
            assert found.name == "too late"
        await stopped.write(lambda tx: tx.save_workflow(found))


@contextlib.contextmanager
def _holding(path: str, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(begin)
    connection.execute("SELECT count(*) FROM news").fetchone()
    try:
        yield connection
    finally:
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("ROLLBACK")
        connection.close()


@pytest.fixture
def sqlite_path(database_of: Callable[[str], Database]) -> str:
    return str(sa.make_url(database_of("sqlite").url).database)


def _insert(tx: Tx, workflow: model.Workflow) -> bool:
    return tx.insert_workflow(workflow)


async def _workflow_ids(store: Store) -> list[str]:
    return [w.id for w in await store.read(lambda tx: tx.list_workflows(facts.PROJECT, {}, None, 10**6))]


async def test_f29_a_file_locked_for_a_moment_makes_writers_wait(
    database_of: Callable[[str], Database], sqlite_path: str
) -> None:
    async with database_of("sqlite").replica() as (store, _):
        workflow = facts.workflow()
        with _holding(sqlite_path):
            writing = asyncio.create_task(store.write(lambda tx: tx.insert_workflow(workflow)))
            done, _ = await asyncio.wait([writing], timeout=0.5)
            assert not done
            assert await _workflow_ids(store) == []  # readers are not held up
        assert await writing is True
        assert await _workflow_ids(store) == [workflow.id]


async def test_f29_a_file_locked_for_long_gives_503_and_loses_nothing(
    database_of: Callable[[str], Database], sqlite_path: str
) -> None:
    async with database_of("sqlite").replica() as (store, _):
        workflows = [facts.workflow() for _ in range(20)]
        writes = [functools.partial(_insert, workflow=workflow) for workflow in workflows]
        with _holding(sqlite_path):
            results = await asyncio.gather(*(store.write(write) for write in writes), return_exceptions=True)
        assert {type(result) for result in results} == {errors.Unavailable}
        assert await asyncio.gather(*(store.write(write) for write in writes)) == [True] * 20
        assert len(await _workflow_ids(store)) == 20


STORM = """
import sqlite3, sys, time
end = time.monotonic() + float(sys.argv[2])
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
while time.monotonic() < end:
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO news (at, keys) VALUES (0, 'storm')")
        connection.execute("COMMIT")
    except sqlite3.OperationalError:
        time.sleep(0.0005)
"""


async def test_f29_in_a_storm_of_writers_every_acknowledged_write_is_there(
    database_of: Callable[[str], Database], sqlite_path: str
) -> None:
    storm = [subprocess.Popen([sys.executable, "-c", STORM, sqlite_path, "4"]) for _ in range(4)]
    try:
        async with database_of("sqlite").replica() as (store, _):
            acknowledged: list[str] = []
            refused: list[errors.Unavailable] = []

            async def write_on() -> None:
                while not acknowledged or any(process.poll() is None for process in storm):
                    workflow = facts.workflow()
                    if await _tried(store, workflow, refused):
                        acknowledged.append(workflow.id)

            await asyncio.gather(*(write_on() for _ in range(8)))
            assert acknowledged
            assert set(acknowledged) <= set(await _workflow_ids(store))
    finally:
        for process in storm:
            process.wait(30)
    with contextlib.closing(sqlite3.connect(sqlite_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_f29_a_reader_that_stays_for_long_holds_nobody_up(
    database_of: Callable[[str], Database], sqlite_path: str
) -> None:
    async with database_of("sqlite").replica() as (store, _):
        with _holding(sqlite_path, "BEGIN") as reader:
            for _ in range(50):
                workflow = facts.workflow(tags=["x" * 100_000])
                assert await store.write(lambda tx, w=workflow: tx.insert_workflow(w)) is True  # type: ignore[misc]
            assert reader.execute("SELECT count(*) FROM workflow").fetchone() == (0,)
        assert len(await _workflow_ids(store)) == 50
