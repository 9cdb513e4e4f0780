# SPDX-License-Identifier: Apache-2.0
"""Grouping on PostgreSQL: one commit for those that come together, and who leaves the group (F27)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from heat_workflow import errors, model
from heat_workflow.store import Store, Tx, tables
from tests.harness import facts
from tests.harness.cutting import replica_behind
from tests.harness.stores import Database, insert, together


@pytest.fixture
def postgres(database_of: Callable[[str], Database]) -> Database:
    return database_of("postgresql")


def _rename(
    tx: Tx, workflow: model.Workflow, name: str, places: list[Any] | None = None, tries: list[Any] | None = None
) -> None:
    if tries is not None:
        tries.append((threading.current_thread().name, name))
    found = tx.lock_workflow(facts.PROJECT, workflow.id)
    assert found is not None
    tx.save_workflow(dataclasses.replace(found, name=name))
    if places is not None:
        places.append((threading.current_thread().name, _transaction(tx)))


def _transaction(tx: Tx) -> int:
    """The number that PostgreSQL has given the transaction."""
    driver = tx._connection.connection.driver_connection  # type: ignore[attr-defined]
    return int(driver.execute("SELECT txid_current()").fetchone()[0])


async def _name(store: Store, workflow: model.Workflow) -> str:
    found = await store.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id))
    assert found is not None
    return found.name


@contextlib.contextmanager
def _locked(url: str, workflow: model.Workflow) -> Iterator[None]:
    """Another process holds the workflow's row."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.select(tables.workflow).where(tables.workflow.c.id == workflow.id).with_for_update())
        yield
    engine.dispose()


async def test_those_that_come_together_share_a_commit_and_one_that_refuses_takes_only_its_own_back(
    postgres: Database,
) -> None:
    async with postgres.replica() as (store, ears):
        workflow, other, refused = facts.workflow(), facts.workflow(), facts.workflow()
        await insert(store, workflows=[workflow, other, refused])
        places: list[Any] = []

        def refuse(tx: Tx) -> None:
            _rename(tx, refused, "refused")
            tx.wake("refused")
            raise errors.Conflict("no")

        def tell(tx: Tx) -> None:
            _rename(tx, other, "second", places)
            tx.wake("told")

        first = functools.partial(_rename, workflow=workflow, name="first", places=places)
        results = await together(store.write(first), store.write(refuse), store.write(tell))
        assert results[0] is None
        assert isinstance(results[1], errors.Conflict)
        assert results[2] is None
        assert [await _name(store, each) for each in (workflow, other, refused)] == ["first", "second", refused.name]
        assert {thread for thread, _ in places} == {"store-group"}
        assert len({transaction for _, transaction in places}) == 1
        await ears.hear("told")
        assert "refused" not in ears.keys


async def test_what_meets_a_lock_runs_alone_and_holds_nobody_up(postgres: Database) -> None:
    async with postgres.replica() as (store, _):
        workflow, other = facts.workflow(), facts.workflow()
        await insert(store, workflows=[workflow, other])
        places: list[Any] = []
        tries: list[Any] = []
        rename = functools.partial(_rename, workflow=workflow, places=places, tries=tries)
        with _locked(postgres.url, workflow):
            waiting = [
                asyncio.create_task(store.write(functools.partial(rename, name=name))) for name in ("one", "two")
            ]
            async with asyncio.timeout(5):
                await store.write(functools.partial(_rename, workflow=other, name="at once"))
            assert await _name(store, other) == "at once"
            async with asyncio.timeout(5):
                while {name for thread, name in tries if thread != "store-group"} != {"one", "two"}:
                    await asyncio.sleep(0.01)
            assert not any(each.done() for each in waiting)
        await asyncio.gather(*waiting)
        assert await _name(store, workflow) in ("one", "two")
        assert not any(thread == "store-group" for thread, _ in places), places


async def test_two_replicas_that_want_the_same_rows_in_another_order_do_not_wait_for_each_other(
    postgres: Database,
) -> None:
    async with postgres.replica() as (here, _), postgres.replica() as (there, _):
        workflows = [facts.workflow() for _ in range(8)]
        await insert(here, workflows=workflows)
        for n in range(20):
            forth = [here.write(functools.partial(_rename, workflow=w, name=f"h{n}")) for w in workflows]
            back = [there.write(functools.partial(_rename, workflow=w, name=f"t{n}")) for w in reversed(workflows)]
            async with asyncio.timeout(10):
                assert await asyncio.gather(*forth, *back) == [None] * 16
            assert {await _name(here, w) for w in workflows} <= {f"h{n}", f"t{n}"}


async def test_what_is_long_runs_alone(postgres: Database) -> None:
    async with postgres.replica() as (store, _):
        workflow = facts.workflow()
        await insert(store, workflows=[workflow])
        runs: list[str] = []

        def look_around(tx: Tx) -> int:
            runs.append(threading.current_thread().name)
            return sum(tx.find_workflow(facts.PROJECT, workflow.id) is not None for _ in range(500))

        assert await store.write(look_around) == 500
        assert len(runs) == 2
        assert runs[0] == "store-group"
        assert runs[1].startswith("store_")


async def test_f27_a_group_whose_commit_is_lost_is_not_run_again_by_itself(postgres: Database) -> None:
    """Whether it is on the disk nobody here can know; whoever asked has to ask again."""
    async with replica_behind(postgres) as (proxy, store):
        for after in (False, True):
            workflows = [facts.workflow() for _ in range(3)]
            runs: list[str] = []

            def add(tx: Tx, workflow: model.Workflow, runs: list[str] = runs) -> bool:
                runs.append(workflow.id)
                return tx.insert_workflow(workflow)

            cuts = proxy.cuts
            proxy.arm(workflows[0].id.encode(), b"COMMIT", after)
            results = await together(*(store.write(functools.partial(add, workflow=w)) for w in workflows))
            assert [type(result) for result in results] == [errors.Unavailable] * 3
            assert proxy.cuts == cuts + 1
            assert sorted(runs) == sorted(w.id for w in workflows)
            again = await together(*(store.write(functools.partial(add, workflow=w)) for w in workflows))
            assert again == [not after] * 3


async def test_a_connection_lost_in_a_group_costs_another_run_and_nothing_else(postgres: Database) -> None:
    async with replica_behind(postgres) as (proxy, store):
        workflows = [facts.workflow() for _ in range(3)]
        proxy.arm(workflows[0].id.encode(), b"RELEASE", False)
        results = await together(*(store.write(functools.partial(_insert, workflow=w)) for w in workflows))
        assert results == [True] * 3
        assert proxy.cuts == 1


def _insert(tx: Tx, workflow: model.Workflow) -> bool:
    return tx.insert_workflow(workflow)


async def test_closing_finishes_what_has_queued_up(postgres: Database) -> None:
    workflows = [facts.workflow() for _ in range(30)]
    async with postgres.replica() as (store, _):
        writing = [asyncio.create_task(store.write(functools.partial(_insert, workflow=w))) for w in workflows]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writing) == [True] * 30
