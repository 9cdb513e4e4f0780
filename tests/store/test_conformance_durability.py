# SPDX-License-Identifier: Apache-2.0
"""Conformance: a transaction is kept whole or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from heat_workflow import errors, model
from heat_workflow.store import Store, Tx
from tests.harness import facts
from tests.harness.stores import Database, insert, task_of, together


async def test_what_was_written_is_there_for_another_replica_and_after_a_reopen(empty: Database) -> None:
    workflow = facts.workflow(tags=["a", "b"], sealed=True)
    async with empty.replica() as (store, _):
        await insert(store, workflows=[workflow])
    async with empty.replica() as (store, _):
        assert await store.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id)) == workflow


async def test_an_error_of_the_use_case_leaves_nothing_and_reaches_the_caller(store: Store) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow)

    def fail(tx: Tx) -> None:
        tx.insert_workflow(workflow)
        tx.insert_tasks([task], {task.definition_id: facts.DEFINITION})
        tx.add_event(workflow.id, "task-added", task, {})
        raise errors.Conflict("no")

    with pytest.raises(errors.Conflict):
        await store.write(fail)
    assert await store.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id)) is None
    assert await store.read(lambda tx: tx.find_task_any_project(task.id)) is None
    assert await store.read(lambda tx: tx.list_events(workflow.id, 0, 10)) == []


async def test_one_failing_transaction_takes_none_of_its_neighbours_down(store: Store) -> None:
    workflows = [facts.workflow(name=str(n)) for n in range(40)]

    def write(workflow: model.Workflow) -> object:
        def one(tx: Tx) -> None:
            tx.insert_workflow(workflow)
            if int(workflow.name) % 2:
                raise errors.Invalid("odd")

        return store.write(one)

    results = await together(*(write(workflow) for workflow in workflows))
    assert [isinstance(result, errors.Invalid) for result in results] == [bool(n % 2) for n in range(40)]
    kept = await store.read(lambda tx: tx.list_workflows(facts.PROJECT, {}, None, 100))
    assert sorted(int(workflow.name) for workflow in kept) == list(range(0, 40, 2))


async def test_a_row_that_is_there_already_fails_its_transaction_alone(store: Store) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow)
    await insert(store, task, workflows=[workflow])
    twice, other = await together(insert(store, task), insert(store, facts.task(workflow, 2)))
    assert isinstance(twice, errors.Unavailable)
    assert other is None
    assert len(await store.read(lambda tx: tx.list_tasks(workflow.id))) == 2


async def test_reads_and_writes_return_what_the_use_case_returns(store: Store) -> None:
    assert await store.write(lambda tx: {"a": 1}) == {"a": 1}
    assert await store.read(lambda tx: [None]) == [None]


async def test_a_read_sees_one_moment_however_long_it_looks(store: Store) -> None:
    workflow = facts.workflow()
    tasks = [facts.task(workflow, seq) for seq in (1, 2)]
    await insert(store, *tasks, workflows=[workflow])
    loop = asyncio.get_running_loop()

    def change(tx: Tx) -> None:
        for task in tasks:
            assert tx.save_task(task, dataclasses.replace(task, status_reason="changed"))

    def look(tx: Tx) -> list[str]:
        first = tx.find_task_any_project(tasks[0].id)
        asyncio.run_coroutine_threadsafe(store.write(change), loop).result(30)
        second = tx.find_task_any_project(tasks[1].id)
        assert first is not None
        assert second is not None
        return [first.status_reason, second.status_reason]

    assert await store.read(look) == ["", ""]
    assert (await task_of(store, tasks[1].id)).status_reason == "changed"


async def test_large_json_comes_back_byte_for_byte(store: Store) -> None:
    workflow = facts.workflow()
    big = {"text": 'ä\U0001f600"\\\n' * 100_000, "deep": [[[{"x": [None, True, 2**63 - 1, 0.1]}]]], "z": 1, "a": 2}
    task = facts.task(workflow, spec=big)
    await insert(store, task, workflows=[workflow])
    stored = await task_of(store, task.id)
    assert stored == task
    assert list(stored.spec) == list(big)


async def test_a_value_that_is_too_long_is_kept_whole_or_refused_but_never_cut(store: Store) -> None:
    workflow = facts.workflow(name="x" * 600)
    try:
        await insert(store, workflows=[workflow])
    except errors.Unavailable:
        assert await store.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id)) is None
    else:
        assert await store.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id)) == workflow


async def test_a_glance_sees_what_was_committed(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, workflows=[workflow])
    assert await store.glance(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id)) == workflow
    with pytest.raises(errors.Conflict):
        await store.glance(_refuse)


def _refuse(tx: Tx) -> None:
    raise errors.Conflict("no")


def test_the_suite_speaks_of_every_method_of_a_transaction() -> None:
    suite = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    silent = [name for name in vars(Tx) if not name.startswith("_") and f"tx.{name}" not in suite]
    assert silent == []


async def test_a_write_after_the_end_is_refused(empty: Database) -> None:
    async with empty.replica() as (store, _):
        pass
    with pytest.raises(errors.Unavailable):
        await store.write(lambda tx: None)
    with pytest.raises(errors.Unavailable):
        await store.read(lambda tx: None)
