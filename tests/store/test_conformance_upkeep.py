# SPDX-License-Identifier: Apache-2.0
"""Conformance: what upkeep and metrics ask of the store."""

from __future__ import annotations

import asyncio
import dataclasses
import functools

import pytest
import sqlalchemy as sa

from heat_workflow import errors, model
from heat_workflow.model import AgentState, TaskState, WorkflowState
from heat_workflow.store import Store, Tx
from heat_workflow.store.statements import tasks as statements
from heat_workflow.taskqueue import upkeep
from tests.harness import facts
from tests.harness.stores import Database, insert


async def test_unfinished_tasks_are_counted_over_all_projects(store: Store) -> None:
    assert await store.read(lambda tx: (tx.count_unfinished(), tx.oldest_ready())) == ({}, None)
    mine, theirs = facts.workflow(), facts.workflow(project_id="p2")
    tasks = [facts.task(mine, seq, state=state) for seq, state in enumerate(TaskState)]
    older = facts.task(theirs, ready_at=facts.NOON - 5)
    await insert(store, *tasks, older, workflows=[mine, theirs])
    counts = {state.value: 1 for state in model.UNFINISHED} | {"ready": 2}
    assert await store.read(lambda tx: (tx.count_unfinished(), tx.oldest_ready())) == (counts, facts.NOON - 5)


@pytest.mark.parametrize("name", ["COUNT_UNFINISHED", "OLDEST_READY"])
async def test_the_numbers_are_read_from_the_index_of_unfinished_tasks(empty: Database, name: str) -> None:
    engine = sa.create_engine(empty.url)
    text = str(getattr(statements, name).compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True}))
    explain = {"sqlite": "EXPLAIN QUERY PLAN "}.get(engine.dialect.name, "EXPLAIN ")
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # an empty table is read whole unless that is forbidden
            connection.exec_driver_sql("SET enable_seqscan = off")
        plan = str(connection.exec_driver_sql(explain + text.replace("%", "%%")).fetchall())
    engine.dispose()
    small = ("task_live", "task_claimable") if name == "OLDEST_READY" else ("task_live",)  # of unfinished tasks alone
    assert any(index in plan for index in small), plan


async def test_agents_are_counted_by_state_and_version_without_the_revoked(store: Store) -> None:
    agents = [facts.agent(), facts.agent(version="1"), facts.agent(version="1", project_id="p2")]
    agents += [facts.agent(version="1", state=AgentState.SUSPECT), facts.agent(state=AgentState.REVOKED)]
    await insert(store, agents=agents)
    counts = {("active", ""): 1, ("active", "1"): 2, ("suspect", "1"): 1}
    assert await store.read(lambda tx: tx.count_agents()) == counts


async def test_tasks_that_finish_are_counted_once_and_after_the_commit(store: Store) -> None:
    workflow = facts.workflow()
    tasks = [facts.task(workflow, seq, state=TaskState.LEASED, attempt=1) for seq in range(4)]
    await insert(store, *tasks, workflows=[workflow])

    def finish(tx: Tx, task: model.Task, state: TaskState, fail: bool = False) -> None:
        after = dataclasses.replace(task, state=state)
        tx.save_task(task, after)
        tx.save_task(task, after)  # somebody else's late word: it changes nothing
        tx.save_task(after, dataclasses.replace(after, detached=True))
        if fail:
            raise errors.Conflict("no")

    await store.write(lambda tx: finish(tx, tasks[0], TaskState.SUCCEEDED))
    await store.write(lambda tx: finish(tx, tasks[1], TaskState.SUCCEEDED))
    await store.write(lambda tx: finish(tx, tasks[2], TaskState.FAILED))
    with pytest.raises(errors.Conflict):
        await store.write(lambda tx: finish(tx, tasks[3], TaskState.FAILED, fail=True))
    assert dict(store.finished) == {"succeeded": 2, "failed": 1}


async def test_history_and_tombstones_are_listed_by_age(store: Store) -> None:
    def ended(days: float) -> model.Workflow:
        return facts.workflow(state=WorkflowState.CLOSED, finished_at=facts.NOON + days, project_id=f"p{days}")

    old, older, young, running = ended(1), ended(0), ended(9), facts.workflow()
    gone = facts.agent(state=AgentState.REVOKED, revoked_at=facts.NOON, project_id="p2")
    late = facts.agent(state=AgentState.REVOKED, revoked_at=facts.NOON + 9)
    await insert(store, workflows=[old, older, young, running], agents=[gone, late, facts.agent()])
    assert await store.read(lambda tx: tx.list_ended(facts.NOON + 5, 10)) == [older, old]
    assert await store.read(lambda tx: tx.list_ended(facts.NOON + 5, 1)) == [older]
    assert await store.read(lambda tx: tx.list_tombstones(facts.NOON + 5, 10)) == [gone]


async def test_a_deleted_agent_takes_its_events_with_it(store: Store) -> None:
    agent, other = facts.agent(), facts.agent()
    await insert(store, agents=[agent, other])

    def write(tx: Tx) -> None:
        tx.insert_agent_event(agent, "e", {})
        tx.insert_agent_event(other, "e", {})

    await store.write(write)
    await store.write(lambda tx: tx.delete_agent(agent.id))
    assert await store.read(lambda tx: tx.find_agent(agent.id)) is None
    assert await store.read(lambda tx: tx.list_agent_events(agent.id, 0, 9)) == []
    assert len(await store.read(lambda tx: tx.list_agent_events(other.id, 0, 9))) == 1


async def test_a_purge_goes_in_small_transactions_until_nothing_is_left(store: Store) -> None:
    now = await store.read(lambda tx: tx.now)
    ended = [facts.workflow(state=WorkflowState.CLOSED, finished_at=now - 3 * upkeep.DAY) for _ in range(5)]
    await insert(store, *(facts.task(w) for w in ended), workflows=ended)
    assert await store.read(lambda tx: upkeep.count_purgeable(tx, 4, 4)) == upkeep.Purged(0, 0)
    assert await store.read(lambda tx: upkeep.count_purgeable(tx, 2, 4)) == upkeep.Purged(5, 0)
    gone = [await store.write(lambda tx: upkeep.purge(tx, 2, 4, 2)) for _ in range(4)]
    assert [purged.workflows for purged in gone] == [2, 2, 1, 0]
    assert await store.read(lambda tx: tx.count_unfinished()) == {}


async def test_a_definition_goes_with_its_last_task_and_not_before(store: Store) -> None:
    mine, theirs = facts.workflow(), facts.workflow(project_id="p2")
    tasks = [facts.task(mine), facts.task(theirs), facts.task(mine, 2, definition_id="e" * 64)]
    await insert(store, *tasks, workflows=[mine, theirs])
    assert await store.write(upkeep.purge_definitions) == 0
    await store.write(lambda tx: tx.delete_workflow(mine.id))
    assert await store.write(lambda tx: tx.delete_unused_definitions(1)) == 1
    assert await store.write(upkeep.purge_definitions) == 1
    assert await store.write(upkeep.purge_definitions) == 0
    assert await store.read(lambda tx: tx.get_definition("p2", facts.DEFINITION_ID)) == facts.DEFINITION


async def test_no_definition_goes_while_a_task_with_it_comes_in(empty: Database) -> None:
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        adder = one if empty.url.startswith("sqlite") else other
        for _ in range(30):
            workflow = facts.workflow()
            task = facts.task(workflow)
            calls = [one.write(upkeep.purge_definitions) for _ in range(3)]
            await asyncio.gather(calls[0], insert(adder, task, workflows=[workflow]), *calls[1:])
            kept = await one.read(lambda tx: tx.get_definition(facts.PROJECT, facts.DEFINITION_ID))
            assert kept == facts.DEFINITION
            await one.write(functools.partial(delete, workflow_id=workflow.id))


def delete(tx: Tx, workflow_id: str) -> None:
    tx.delete_workflow(workflow_id)


async def test_agents_of_all_projects_are_listed_beyond_one_page(store: Store) -> None:
    agents = [facts.agent(project_id=f"p{n % 2}") for n in range(upkeep.PAGE + 5)]
    await insert(store, agents=[*agents, facts.agent(state=AgentState.REVOKED)])
    assert len(await store.read(lambda tx: upkeep.list_agents(tx, None))) == upkeep.PAGE + 5
    assert {a.project_id for a in await store.read(lambda tx: upkeep.list_agents(tx, "p1"))} == {"p1"}
