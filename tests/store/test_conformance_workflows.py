# SPDX-License-Identifier: Apache-2.0
"""Conformance: workflows."""

from __future__ import annotations

import asyncio
import dataclasses

from heat_workflow import model
from heat_workflow.model import TaskState, WorkflowState
from heat_workflow.store import Store, Tx
from tests.harness import facts
from tests.harness.stores import Database, insert, together


async def test_a_workflow_of_another_project_is_not_found(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, workflows=[workflow])

    def look(tx: Tx) -> list[model.Workflow | None]:
        return [tx.find_workflow(project, workflow.id) for project in (facts.PROJECT, "p2", "P1")]

    def lock(tx: Tx) -> list[model.Workflow | None]:
        return [tx.lock_workflow(project, workflow.id) for project in (facts.PROJECT, "p2", "P1")]

    assert await store.read(look) == [workflow, None, None]
    assert await store.write(lock) == [workflow, None, None]


async def test_an_id_in_use_is_refused_in_every_project(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, workflows=[workflow])
    again = [workflow, dataclasses.replace(workflow, project_id=model.ProjectId("p2"))]
    for other in again:
        assert await store.write(lambda tx, w=other: tx.insert_workflow(w)) is False  # type: ignore[misc]
    assert await store.read(lambda tx: tx.find_workflow("p2", workflow.id)) is None


async def test_of_many_that_insert_one_id_at_once_one_succeeds(empty: Database) -> None:
    workflow = facts.workflow()
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        if empty.url.startswith("sqlite"):
            other = one
        calls = [s.write(lambda tx: tx.insert_workflow(workflow)) for s in (one, other) * 10]
        assert sorted(await together(*calls)) == [False] * 19 + [True]


async def test_a_saved_workflow_shows_its_new_name_tags_state_and_end(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, workflows=[workflow])
    changed = dataclasses.replace(
        workflow, name="other", tags=["x"], state=WorkflowState.SUCCEEDED, finished_at=facts.NOON + 0.123456
    )
    await store.write(lambda tx: tx.save_workflow(changed))
    assert await store.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id)) == changed


async def test_a_deleted_workflow_takes_all_it_held_with_it_and_nothing_else(store: Store) -> None:
    gone, kept = facts.workflow(), facts.workflow()
    tasks = {w.id: facts.task(w, attempt=1, spec={}) for w in (gone, kept)}
    await insert(store, *tasks.values(), workflows=[gone, kept])

    def fill(tx: Tx) -> None:
        for workflow in (gone, kept):
            task = tasks[workflow.id]
            tx.insert_attempt(facts.attempt(task))
            tx.insert_requirements(workflow.id, [(task.id, facts.new_id())])
            tx.insert_log(task.id, 1, 0, "stdout", "text")
            tx.seal(task, "input", {"x": 1})
            tx.add_event(workflow.id, "task-added", task, {})

    def look(tx: Tx) -> list[list[int]]:
        return [
            [
                len(tx.list_tasks(workflow.id)),
                len(tx.list_attempts(tasks[workflow.id].id)),
                len(tx.list_requirements(workflow.id)),
                len(tx.list_log(tasks[workflow.id].id, 1, -1)),
                len(tx.list_events(workflow.id, 0, 10)),
                len(tx.unseal(tasks[workflow.id], "input")),
            ]
            for workflow in (gone, kept)
        ]

    await store.write(fill)
    assert await store.read(look) == [[1] * 6, [1] * 6]

    def delete(tx: Tx) -> None:
        tx.add_event(gone.id, "workflow-cancelling", None, {})
        tx.forget_events(gone.id)
        tx.delete_workflow(gone.id)

    await store.write(delete)
    assert await store.read(look) == [[0] * 6, [1] * 6]
    assert await store.read(lambda tx: tx.find_workflow(facts.PROJECT, gone.id)) is None


async def test_workflows_are_listed_by_age_in_pages_without_gaps_or_repeats(store: Store) -> None:
    # Two of each age: the id decides between them.
    workflows = [facts.workflow(created_at=facts.NOON + n // 2) for n in range(7)]
    foreign = facts.workflow(project_id="p2")
    await insert(store, workflows=[*workflows, foreign])
    seen: list[str] = []
    marker = None
    while page := await store.read(lambda tx, m=marker: tx.list_workflows(facts.PROJECT, {}, m, 2)):  # type: ignore[misc]
        assert len(page) <= 2
        seen += [workflow.id for workflow in page]
        marker = page[-1].id
    assert seen == [w.id for w in sorted(workflows, key=lambda w: (w.created_at, w.id))]
    for unknown in (foreign.id, facts.new_id(), "' OR 1=1 --"):
        found = await store.read(lambda tx, m=unknown: tx.list_workflows(facts.PROJECT, {}, m, 10))  # type: ignore[misc]
        assert found == []


async def test_workflows_of_all_projects_are_listed_in_pages(store: Store) -> None:
    workflows = [
        facts.workflow(project_id=f"p{n % 3}", name=f"w{n % 2}", tags=["x"] if n < 3 else [], created_at=facts.NOON + n)
        for n in range(6)
    ]
    await insert(store, workflows=workflows)
    ids = [workflow.id for workflow in workflows]

    async def listed(filters: dict[str, str], marker: str | None, limit: int) -> list[str]:
        found = await store.read(lambda tx: tx.list_workflows(None, filters, marker, limit))
        return [workflow.id for workflow in found]

    assert await listed({}, None, 10) == ids
    assert await listed({}, ids[1], 3) == ids[2:5]
    assert await listed({"name": "w1"}, None, 2) == [ids[1], ids[3]]
    assert await listed({"tag": "x"}, ids[0], 1) == [ids[1]]


async def test_filters_pick_by_name_state_and_tag(store: Store) -> None:
    a = facts.workflow(name="a", tags=["x", "y"])
    b = facts.workflow(name="b", state=WorkflowState.PAUSED, tags=["y"], created_at=facts.NOON + 1)
    await insert(store, workflows=[a, b])

    async def ids(**filters: str) -> list[str]:
        found = await store.read(lambda tx: tx.list_workflows(facts.PROJECT, filters, None, 10))
        return [workflow.id for workflow in found]

    assert await ids(name="a") == [a.id]
    assert await ids(state="paused") == [b.id]
    assert await ids(tag="x") == [a.id]
    assert await ids(tag="y") == [a.id, b.id]
    assert await ids(tag="y", name="b") == [b.id]
    assert await ids(name="%") == await ids(name="_") == await ids(tag="%") == []


async def test_tasks_are_counted_by_state(store: Store) -> None:
    workflow = facts.workflow()
    states = [TaskState.READY, TaskState.READY, TaskState.FAILED]
    await insert(
        store, *(facts.task(workflow, seq, state=state) for seq, state in enumerate(states)), workflows=[workflow]
    )
    assert await store.read(lambda tx: tx.count_tasks(workflow.id)) == {"ready": 2, "failed": 1}
    assert await store.read(lambda tx: tx.count_tasks(facts.new_id())) == {}


async def test_nobody_else_changes_a_locked_workflow(empty: Database) -> None:
    workflow = facts.workflow()
    async with empty.replica() as (one, _):
        await insert(one, workflows=[workflow])
        loop = asyncio.get_running_loop()
        locked, go_on = asyncio.Event(), asyncio.Event()

        def hold(tx: Tx) -> None:
            tx.expect(10**6)  # it waits for the event loop, so it may not hold that up
            found = tx.lock_workflow(facts.PROJECT, workflow.id)
            assert found is not None
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
            tx.save_workflow(dataclasses.replace(found, tags=[*found.tags, "first"]))

        def follow(tx: Tx) -> None:
            found = tx.lock_workflow(facts.PROJECT, workflow.id)
            assert found is not None
            tx.save_workflow(dataclasses.replace(found, tags=[*found.tags, "second"]))

        first = asyncio.create_task(one.write(hold))
        await locked.wait()
        second = asyncio.create_task(one.write(follow))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
        go_on.set()
        await asyncio.gather(first, second)
        found = await one.read(lambda tx: tx.find_workflow(facts.PROJECT, workflow.id))
        assert found is not None
        assert found.tags == ["first", "second"]
