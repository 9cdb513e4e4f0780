# SPDX-License-Identifier: Apache-2.0
"""Conformance: what is ready, who gets it, and that nobody else does, with real concurrency (G3, G9)."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools

import pytest
import sqlalchemy as sa

from heat_workflow import lifecycle, model
from heat_workflow.model import TaskState, WorkflowState
from heat_workflow.store import Store, Tx, tables
from heat_workflow.taskqueue import adding, claiming
from tests.harness import facts
from tests.harness.stores import Database, claim, insert, report, task_of, together


async def test_ready_tasks_come_by_priority_then_age(store: Store) -> None:
    workflow = facts.workflow()
    ranks = [(0, 3.0), (5, 2.0), (-1, 0.0), (0, 1.0), (5, 1.0)]
    tasks = [facts.task(workflow, n, priority=p, ready_at=at) for n, (p, at) in enumerate(ranks)]
    await insert(store, *tasks, workflows=[workflow])
    wanted = [tasks[n] for n in (4, 1, 3, 0, 2)]
    assert await store.read(lambda tx: tx.find_ready(facts.PROJECT, "", 10, 0)) == wanted
    assert await store.read(lambda tx: tx.find_ready(facts.PROJECT, "", 2, 1)) == wanted[1:3]
    assert await store.read(lambda tx: tx.find_ready(facts.PROJECT, "", 2, 5)) == []


async def test_a_route_shows_its_own_ready_tasks_alone(store: Store) -> None:
    workflow, foreign = facts.workflow(), facts.workflow(project_id="p2")
    tasks = [facts.task(workflow, 1, route="a"), facts.task(workflow, 2, route="b"), facts.task(workflow, 3)]
    unready = [
        facts.task(workflow, 10 + n, route="a", state=s) for n, s in enumerate(set(TaskState) - {TaskState.READY})
    ]
    await insert(store, *tasks, *unready, facts.task(foreign, route="a"), workflows=[workflow, foreign])
    for route, task in zip(("a", "b", ""), tasks, strict=True):
        assert await store.read(lambda tx, r=route: tx.find_ready(facts.PROJECT, r, 10, 0)) == [task]  # type: ignore[misc]
    assert await store.read(lambda tx: tx.find_ready(facts.PROJECT, "c", 10, 0)) == []


@pytest.mark.parametrize("state", WorkflowState)
async def test_only_workflows_that_go_on_hand_out_work(store: Store, state: WorkflowState) -> None:
    workflow = facts.workflow(state=state)
    await insert(store, facts.task(workflow), workflows=[workflow])
    found = await store.read(lambda tx: tx.find_ready(facts.PROJECT, "", 10, 0))
    assert bool(found) is (state in (WorkflowState.ACTIVE, WorkflowState.UNDOING))


@pytest.fixture(params=[False, True], ids=["in groups", "alone"])
def alone(request: pytest.FixtureRequest) -> bool:
    """Whether each claim and report has a transaction of its own."""
    return bool(request.param)


async def claim_all(stores: list[Store], agents: list[model.Agent], alone: bool) -> list[str]:
    """Every agent claims on the replicas in turn until there is nothing left; the ids of the tasks they got."""
    got: list[str] = []

    async def work(store: Store, agent: model.Agent) -> None:
        while (claimed := await claim(store, agent.id, alone=alone)) is not None:
            got.append(claimed.task.id)

    await asyncio.gather(*(work(stores[n % len(stores)], agent) for n, agent in enumerate(agents)))
    return got


async def test_g3_of_many_agents_at_many_tasks_each_task_goes_to_one(empty: Database, alone: bool) -> None:
    workflow = facts.workflow()
    tasks = [facts.task(workflow, seq) for seq in range(80)]
    agents = [facts.agent() for _ in range(12)]
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        await insert(one, *tasks, workflows=[workflow], agents=agents)
        got = await claim_all(replicas(empty, one, other), agents, alone)
        assert sorted(got) == sorted(task.id for task in tasks)
        attempts = [await one.read(lambda tx, t=task: tx.list_attempts(t.id)) for task in tasks]  # type: ignore[misc]
        assert {len(made) for made in attempts} == {1}


def replicas(database: Database, one: Store, other: Store) -> list[Store]:
    """Both of them where the database takes more than one replica."""
    return [one] if database.url.startswith("sqlite") else [one, other]


async def test_g2_no_agent_goes_away_empty_while_there_is_work_for_all(empty: Database, alone: bool) -> None:
    """As many tasks as agents, all looking at once: one that looks while others claim must not find nothing."""
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        stores = replicas(empty, one, other)
        for _ in range(5):
            workflow = facts.workflow()
            agents = [facts.agent() for _ in range(16)]
            await insert(one, *(facts.task(workflow, n) for n in range(16)), workflows=[workflow], agents=agents)
            calls = [claim(stores[n % len(stores)], agent.id, alone=alone) for n, agent in enumerate(agents)]
            got = await asyncio.gather(*calls)
            assert None not in got
            assert len({claimed.task.id for claimed in got if claimed is not None}) == 16


async def test_a_claim_under_way_is_stepped_around_and_not_waited_for(empty: Database) -> None:
    """Whoever claims holds the workflow; another takes a task of a workflow that is free."""
    workflows = [facts.workflow(), facts.workflow()]
    first, second = (facts.task(workflow, seq) for seq, workflow in enumerate(workflows))
    agents = [facts.agent(), facts.agent()]
    async with empty.replica() as (store, _):
        await insert(store, first, second, workflows=workflows, agents=agents)
        loop = asyncio.get_running_loop()
        claimed, go_on = asyncio.Event(), asyncio.Event()

        def slow(tx: Tx) -> str | None:
            tx.expect(10**6)  # it waits for the event loop, so it may not hold that up
            got = claiming.claim(tx, agents[0].id, facts.new_id())
            loop.call_soon_threadsafe(claimed.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
            return None if got is None else got.task.id

        slowly = asyncio.create_task(store.write(slow))
        await claimed.wait()
        quickly = asyncio.create_task(claim(store, agents[1].id))
        if not empty.url.startswith("sqlite"):  # where one writer takes turns, the second has to wait for its turn
            await asyncio.wait_for(asyncio.shield(quickly), 5)
        go_on.set()
        other = await quickly
        assert other is not None
        assert [await slowly, other.task.id] == [first.id, second.id]


async def test_two_claims_with_one_claim_id_are_one_claim(empty: Database, alone: bool) -> None:
    workflow = facts.workflow()
    agent, claim_id = facts.agent(), facts.new_id()
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        stores = replicas(empty, one, other)
        await insert(one, *(facts.task(workflow, n) for n in range(8)), workflows=[workflow], agents=[agent])
        calls = [claim(s, agent.id, claim_id, alone=alone) for s in stores * 8]
        got = await together(*calls)
        assert len({claimed.task.id for claimed in got}) == 1
        assert len(await one.read(lambda tx: tx.held_tasks(agent.id))) == 1


async def test_of_two_tasks_with_one_key_one_is_held_at_a_time(empty: Database, alone: bool) -> None:
    workflow = facts.workflow()
    tasks = [facts.task(workflow, n, concurrency_key=f"k{n % 2}") for n in range(20)]
    agents = [facts.agent() for _ in range(10)]
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        await insert(one, *tasks, workflows=[workflow], agents=agents)
        got = await claim_all(replicas(empty, one, other), agents, alone)
        keys = collections.Counter([(await task_of(one, task_id)).concurrency_key for task_id in got])
        assert keys == {"k0": 1, "k1": 1}
        held = next(task for task in tasks if task.id == got[0])
        assert await one.read(lambda tx: tx.key_holder(facts.PROJECT, str(held.concurrency_key))) == held.id
        assert not await one.write(lambda tx: tx.take_key(facts.task(workflow, 99, concurrency_key="k0")))
        await one.write(lambda tx: tx.drop_key(held))
        assert await one.read(lambda tx: tx.key_holder(facts.PROJECT, str(held.concurrency_key))) is None


async def test_the_next_ready_task_with_a_key_is_found(store: Store) -> None:
    workflow = facts.workflow()
    tasks = [facts.task(workflow, n, concurrency_key="k", priority=n) for n in range(3)]
    others = [facts.task(workflow, 8), facts.task(workflow, 9, concurrency_key="k", state=TaskState.WAITING)]
    await insert(store, *tasks, *others, facts.task(workflow, 7, concurrency_key="K"), workflows=[workflow])
    assert await store.read(lambda tx: tx.ready_with_key(facts.PROJECT, "k", 2)) == [tasks[2], tasks[1]]
    assert await store.read(lambda tx: tx.ready_with_key("p2", "k", 2)) == []


async def test_g9_two_last_requirements_that_finish_at_once_both_count(empty: Database, alone: bool) -> None:
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        stores = replicas(empty, one, other)
        for _ in range(10):
            workflow = facts.workflow()
            await insert(one, workflows=[workflow])
            added, _ = await one.write(functools.partial(add, workflow_id=workflow.id))
            agents = [facts.agent(), facts.agent()]
            await insert(one, agents=agents)
            held = []
            for agent in agents:
                claimed = await claim(one, agent.id, alone=alone)
                assert claimed is not None
                held.append(claimed.task)
            calls = [report(stores[n % len(stores)], task, alone=alone) for n, task in enumerate(held)]
            assert [task.state for task in await asyncio.gather(*calls)] == [TaskState.SUCCEEDED] * 2
            last = await task_of(one, added[2].id)
            assert (last.state, last.pending) == (TaskState.READY, 0)
            events = await one.read(functools.partial(events_of, workflow_id=workflow.id))
            ready = [event for event in events if event.task_id == last.id]
            assert [event.type for event in ready] == ["task-added", "task-ready"]
            await one.write(lambda tx, t=last: tx.save_task(t, dataclasses.replace(t, state=TaskState.CANCELLED)))  # type: ignore[misc]


def add(tx: Tx, workflow_id: str) -> tuple[list[model.Task], bool]:
    requests = [new_task("a"), new_task("b"), new_task("c", requires=("a", "b"))]
    return adding.add_tasks(tx, facts.PROJECT, workflow_id, requests)


def new_task(name: str, **fields: object) -> model.NewTask:
    definition = {"group": "script", "config": "true", "options": {}, "inputs": [], "outputs": []}
    return model.NewTask(name=name, definition=definition, spec={}, **fields)  # type: ignore[arg-type]


def events_of(tx: Tx, workflow_id: str) -> list[model.Event]:
    return tx.list_events(workflow_id, 0, 99)


async def test_a_lease_is_taken_once_when_two_hold_the_same_task_in_mind(empty: Database) -> None:
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        stores = replicas(empty, one, other)
        for _ in range(10):
            workflow = facts.workflow()
            task = facts.task(workflow)
            await insert(one, task, workflows=[workflow])

            def take(tx: Tx, task: model.Task = task) -> bool:
                after = lifecycle.claimed(task, model.AgentId(facts.new_id()), model.ClaimId(facts.new_id()), tx.now)
                return tx.save_task(task, after)

            won = await asyncio.gather(*(store.write(take) for store in stores * 8))
            assert won.count(True) == 1


async def test_of_what_an_agent_holds_the_stalled_ones_are_found(store: Store) -> None:
    workflow, agent = facts.workflow(), facts.agent()
    mine = [facts.task(workflow, n, state=s, agent_id=agent.id) for n, s in enumerate(sorted(model.HELD))]
    foreign = facts.task(workflow, 9, state=TaskState.STALLED, agent_id=facts.new_id())
    await insert(store, *mine, foreign, workflows=[workflow], agents=[agent])
    stalled = [task for task in mine if task.state is TaskState.STALLED]
    assert await store.read(lambda tx: tx.stalled_tasks(agent.id)) == stalled
    assert len(await store.read(lambda tx: tx.held_tasks(agent.id))) == len(mine)


async def test_q1_a_claim_waits_for_its_first_workflow_alone(shared: Database) -> None:
    """Who waits while it holds one could be waited for by who holds the other."""
    workflows = [facts.workflow(), facts.workflow()]
    tasks = [facts.task(workflow) for workflow in workflows]
    async with shared.replica() as (store, _):
        await insert(store, *tasks, workflows=workflows)
        engine = sa.create_engine(shared.url)
        with engine.begin() as other:
            other.execute(sa.select(tables.workflow).where(tables.workflow.c.id == workflows[1].id).with_for_update())
            assert await store.write(lambda tx: [tx.lock_to_claim(task) for task in tasks]) == [True, False]
        engine.dispose()
        assert await store.write(lambda tx: [tx.lock_to_claim(task) for task in tasks]) == [True, True]
        gone = facts.task(facts.workflow())
        assert await store.write(lambda tx: tx.lock_to_claim(gone)) is False
