# SPDX-License-Identifier: Apache-2.0
"""Conformance: a workflow's history has no gaps; wake-ups follow commits, to every replica; one clock."""

from __future__ import annotations

import asyncio
import time

import pytest
import sqlalchemy as sa

from heat_workflow import errors
from heat_workflow.store import Store, Tx
from heat_workflow.store.claims import server_dialect
from heat_workflow.store.clock import DatabaseClock
from tests.harness import facts
from tests.harness.stores import Database, Ears, insert


async def test_events_are_numbered_in_their_order(store: Store) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow)
    await insert(store, task, workflows=[workflow])

    def add(tx: Tx) -> float:
        tx.add_event(workflow.id, "a", None, {"x": "\U0001f600"})
        tx.add_event(workflow.id, "b", task, {})
        return tx.now

    at = [await store.write(add), await store.write(add)]
    events = await store.read(lambda tx: tx.list_events(workflow.id, 0, 99))
    assert [(e.seq, e.type, e.task_id, e.at) for e in events] == [
        (1, "a", None, at[0]),
        (2, "b", task.id, at[0]),
        (3, "a", None, at[1]),
        (4, "b", task.id, at[1]),
    ]
    assert events[0].body == {"x": "\U0001f600"}
    assert await store.read(lambda tx: tx.list_events(workflow.id, 1, 2)) == events[1:3]
    assert await store.read(lambda tx: tx.list_events(facts.new_id(), 0, 9)) == []


async def test_many_writers_leave_no_gap_that_a_reader_could_see(empty: Database) -> None:
    workflow = facts.workflow()
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        await insert(one, workflows=[workflow])
        stores = [one] if empty.url.startswith("sqlite") else [one, other]
        seen: list[int] = []

        async def follow() -> None:
            while len(seen) < 100:
                found = await one.read(lambda tx: tx.list_events(workflow.id, seen[-1] if seen else 0, 99))
                seen.extend(event.seq for event in found)

        def add(tx: Tx) -> None:
            tx.add_event(workflow.id, "a", None, {})
            tx.add_event(workflow.id, "b", None, {})

        def fail(tx: Tx) -> None:
            tx.add_event(workflow.id, "never", None, {})
            raise errors.Conflict("no")

        calls = [stores[n % len(stores)].write(fail if n % 5 == 4 else add) for n in range(62)]
        results = await asyncio.gather(follow(), *calls, return_exceptions=True)
        assert sum(isinstance(result, errors.Conflict) for result in results) == 12
        assert seen == list(range(1, 101))


async def test_wake_ups_follow_the_commit_and_never_a_rollback(store: Store, ears: Ears) -> None:
    workflow = facts.workflow()

    def fail(tx: Tx) -> None:
        tx.wake("failed")
        raise errors.Conflict("no")

    def add(tx: Tx) -> None:
        tx.insert_workflow(workflow)
        tx.wake("added")

    with pytest.raises(errors.Conflict):
        await store.write(fail)
    writing = asyncio.create_task(store.write(add))
    await ears.hear("added")
    assert await store.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id)) is not None
    await writing
    await store.write(lambda tx: tx.wake("last"))
    await ears.hear("last")
    assert ears.keys == ["added", "last"]


async def test_events_wake_those_who_wait_for_the_workflow_and_the_task(store: Store, ears: Ears) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow)
    await insert(store, task, workflows=[workflow])
    await store.write(lambda tx: tx.add_event(workflow.id, "a", task, {}))
    await ears.hear(f"workflow:{workflow.id}")
    await ears.hear(f"task:{task.id}")


async def test_wake_ups_reach_the_other_replica_once_each_and_not_the_sender_twice(shared: Database) -> None:
    async with shared.replica() as (one, mine), shared.replica() as (_other, theirs):
        await _connected(one, theirs)
        many = [f"key-{n}-{'x' * 200}" for n in range(200)]  # more than one notification holds

        def wake(tx: Tx) -> None:
            for key in many:
                tx.wake(key)

        await one.write(wake)
        for key in many:
            await theirs.hear(key)
        await one.write(lambda tx: tx.wake("last"))
        await theirs.hear("last")
        for ears in (mine, theirs):
            assert sorted(key for key in ears.keys if key.startswith("key-")) == sorted(many)


async def test_wake_ups_of_a_rolled_back_transaction_reach_nobody(shared: Database) -> None:
    async with shared.replica() as (one, _), shared.replica() as (_other, theirs):
        await _connected(one, theirs)

        def fail(tx: Tx) -> None:
            tx.wake("failed")
            raise errors.Conflict("no")

        with pytest.raises(errors.Conflict):
            await one.write(fail)
        await one.write(lambda tx: tx.wake("last"))
        await theirs.hear("last")
        assert "failed" not in theirs.keys


async def _connected(store: Store, ears: Ears) -> None:
    """Wait until the other replica listens."""
    for _ in range(100):
        await store.write(lambda tx: tx.wake("hello"))
        try:
            await ears.hear("hello", within=0.2)
        except TimeoutError:
            continue
        return
    raise AssertionError("the other replica does not listen")


async def test_one_transaction_has_one_time_and_it_is_the_databases(store: Store, empty: Database) -> None:
    engine = sa.create_engine(empty.url)
    query = {"sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0"}
    name = engine.dialect.name
    clock = query.get(name) or server_dialect(name).clock

    def look(tx: Tx) -> tuple[float, float]:
        first = tx.now
        time.sleep(0.01)
        return first, tx.now

    with engine.connect() as connection:
        before = float(connection.exec_driver_sql(clock).scalar_one())
        first, second = await store.read(look)
        after = float(connection.exec_driver_sql(clock).scalar_one())
    engine.dispose()
    assert first == second
    assert before - 0.01 <= first <= after + 0.01  # SQLite's own clock counts milliseconds


async def test_f25_a_replica_takes_the_databases_time_wherever_either_machine_stands(shared: Database) -> None:
    """Neither the replica's clock nor the time zone of the database's session moves our time."""
    engine = sa.create_engine(shared.url)
    query = server_dialect(engine.dialect.name).clock
    with engine.connect() as connection:
        zone = "SET TIME ZONE 'UTC+5'" if engine.dialect.name == "postgresql" else "SET time_zone = '+05:00'"
        here = DatabaseClock(query, time.monotonic).now(connection)
        ahead = DatabaseClock(query, lambda: time.monotonic() + 600).now(connection)
        connection.exec_driver_sql(zone)
        elsewhere = DatabaseClock(query, time.monotonic).now(connection)
    engine.dispose()
    assert max(here, ahead, elsewhere) - min(here, ahead, elsewhere) < 1
    assert abs(here - time.time()) < 60
