# SPDX-License-Identifier: Apache-2.0
"""Conformance: what a project keeps is counted as it comes, and no more once it is gone."""

from __future__ import annotations

import asyncio

from heat_workflow import errors
from heat_workflow.model import Json, NewTask, Usage
from heat_workflow.store import Store, Tx
from heat_workflow.taskqueue import adding
from tests.harness import facts
from tests.harness.stores import insert, together


async def usage(store: Store, project_id: str = facts.PROJECT) -> Usage:
    return await store.read(lambda tx: tx.usage(project_id))


async def test_workflows_tasks_and_bytes_are_counted_by_project(store: Store) -> None:
    assert await usage(store) == Usage()
    mine, other, theirs = facts.workflow(), facts.workflow(), facts.workflow(project_id="p2")
    await insert(store, *(facts.task(mine, n) for n in range(3)), facts.task(theirs), workflows=[mine, other, theirs])
    found = await usage(store)
    assert (found.workflows, found.tasks, found.bytes > 3000) == (2, 3, True)
    await store.write(lambda tx: tx.grow(other.id, 500))
    assert await usage(store) == found + Usage(0, 0, 500)
    assert (await usage(store, "p2")).tasks == 1
    await store.write(lambda tx: tx.delete_workflow(mine.id))
    assert await usage(store) == Usage(1, 0, 500)


async def test_a_transaction_knows_what_it_adds(store: Store) -> None:
    workflow = facts.workflow()
    seen: list[Usage] = []

    def add(tx: Tx) -> None:
        seen.append(tx.growth)
        tx.insert_workflow(workflow)
        tx.insert_workflow(workflow)
        tasks = [facts.task(workflow, 1), facts.task(workflow, 2)]
        tx.insert_tasks(tasks, {tasks[0].definition_id: facts.DEFINITION})
        tx.grow(workflow.id, 7)
        seen.append(tx.growth)
        raise errors.TooMany("no room")

    assert [type(answer) for answer in await together(store.write(add))] == [errors.TooMany]
    assert seen[0] == Usage()
    assert (seen[1].workflows, seen[1].tasks) == (1, 2)
    assert await usage(store) == Usage(), "what was rolled back does not count"


async def test_many_writers_lose_no_count(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, workflows=[workflow])
    await asyncio.gather(*(store.write(lambda tx: tx.grow(workflow.id, 10)) for _ in range(40)))
    assert await usage(store) == Usage(1, 0, 400)


async def test_s68_what_a_request_adds_is_foreseen_before_anything_is_made(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, workflows=[workflow])
    spec: dict[str, Json] = {
        "input_values": {"big": "ä" * 5000, "id": {"get_server": "id"}, "secret": "s" * 5000},
        "hidden_inputs": ["secret"],
        "undo": {"group": "script", "config": "u" * 3000},
    }
    one = NewTask("one", facts.DEFINITION, spec, server="s")
    many = NewTask("many", facts.DEFINITION, spec, servers={f"n{n}": f"s{n}" for n in range(20)}, requires=["one"])
    foreseen: list[tuple[Usage, Usage]] = []

    def refuse(growth: Usage) -> None:
        raise errors.TooLarge(str(growth.bytes))

    def add(tx: Tx, refused: bool) -> Usage:
        tx.ceiling = refuse if refused else lambda growth: foreseen.append((growth, tx.growth))
        adding.add_tasks(tx, workflow.project_id, workflow.id, [one, many])
        return tx.growth

    assert [type(answer) for answer in await together(store.write(lambda tx: add(tx, True)))] == [errors.TooLarge]
    assert (await usage(store)).tasks == 0
    grown = await store.write(lambda tx: add(tx, False))
    growth, made = foreseen[-1]  # a long transaction is begun again elsewhere
    assert made == Usage()
    assert (growth.tasks, grown.tasks) == (21, 21)
    assert 0.9 * grown.bytes < growth.bytes <= grown.bytes


async def test_what_is_foreseen_is_refused_by_the_ceiling_of_who_set_one(store: Store) -> None:
    told: list[Usage] = []

    def foreseen(tx: Tx) -> None:
        tx.foresee(Usage(tasks=1))  # nobody has set a ceiling
        tx.ceiling = told.append
        tx.foresee(Usage(tasks=2, bytes=3))

    await store.write(foreseen)
    assert told == [Usage(tasks=2, bytes=3)]
    assert await usage(store) == Usage()
