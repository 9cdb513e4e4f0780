# SPDX-License-Identifier: Apache-2.0
"""Conformance: an agent polls at one replica at a time, also if no replica hears of the others."""

from __future__ import annotations

import asyncio

import pytest

from heat_workflow import errors, model
from heat_workflow.model import NewTask
from heat_workflow.store import Store
from heat_workflow.taskqueue import TaskQueue, adding, announcing, sessions
from heat_workflow.taskqueue.claiming import Claimed
from heat_workflow.taskqueue.polling import Polls
from heat_workflow.wakeup import Wakeups
from tests.harness import facts
from tests.harness.stores import Database, insert


class Deaf:
    """A replica that hears nothing of what others commit; the test rings its bells."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.place = facts.new_id()
        self.bells = Wakeups(recheck=3600)
        self.polls = Polls(TaskQueue(store, self.bells), self.bells, self.place)

    async def poll(self, agent_id: str, bare: bool = False) -> asyncio.Task[Claimed | None]:
        """A poll of the agent that has looked once, found nothing and waits."""
        agent = await self.store.read(lambda tx: tx.find_agent(agent_id))
        assert agent is not None
        waits = asyncio.Event()

        def stays() -> asyncio.Future[None]:
            waits.set()
            return asyncio.get_running_loop().create_future()

        poll = asyncio.create_task(self.polls.claim(agent, facts.new_id(), 30, stays, bare))
        async with asyncio.timeout(10):
            await waits.wait()
        return poll


async def test_a_poll_left_waiting_at_another_replica_takes_nothing(empty: Database) -> None:
    workflow, agent = facts.workflow(), facts.agent()
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        here, there = Deaf(one), Deaf(other)
        await insert(one, workflows=[workflow], agents=[agent])
        older = await here.poll(agent.id)
        newer = await there.poll(agent.id)
        wanted = NewTask(name="t", definition=facts.DEFINITION, spec={})
        [task], _ = await one.write(lambda tx: adding.add_tasks(tx, facts.PROJECT, workflow.id, [wanted]))
        news = {announcing.route_key(model.ProjectId(facts.PROJECT), ""): 1}
        here.bells.publish(news)
        with pytest.raises(errors.Conflict, match="newer claim"):
            await asyncio.wait_for(older, 10)
        there.bells.publish(news)
        claimed = await asyncio.wait_for(newer, 10)
        assert claimed is not None
        assert (claimed.task.id, claimed.task.attempt) == (task.id, 1)


async def test_s71_a_poll_without_the_nonce_takes_nothing_once_the_session_has_shown_its_own(empty: Database) -> None:
    workflow, agent = facts.workflow(), facts.agent(nonce="n", polls_at=None)
    async with empty.replica() as (store, _):
        replica = Deaf(store)
        await insert(store, workflows=[workflow], agents=[agent])
        poll = await replica.poll(agent.id, bare=True)
        await store.write(lambda tx: sessions.note_claims_with_nonce(tx, agent.id, "n"))
        wanted = NewTask(name="t", definition=facts.DEFINITION, spec={})
        [task], _ = await store.write(lambda tx: adding.add_tasks(tx, facts.PROJECT, workflow.id, [wanted]))
        replica.bells.publish({announcing.route_key(model.ProjectId(facts.PROJECT), ""): 1})
        with pytest.raises(errors.Conflict, match="another process"):
            await asyncio.wait_for(poll, 10)
        found = await store.read(lambda tx: tx.find_task(facts.PROJECT, task.id))
        assert found is not None
        assert found.state is model.TaskState.READY


async def test_an_agent_that_comes_back_to_its_replica_polls_there_again(empty: Database) -> None:
    agent = facts.agent()
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        here, there = Deaf(one), Deaf(other)
        await insert(one, agents=[agent])
        polls = [await replica.poll(agent.id) for replica in (here, there, here)]
        there.bells.publish({f"agent:{agent.id}": 1})
        refused = await asyncio.gather(*polls[:2], return_exceptions=True)
        assert [type(answer) for answer in refused] == [errors.Conflict, errors.Conflict]
        found = await one.read(lambda tx: tx.find_agent(agent.id))
        assert found is not None
        assert (found.polls_at, polls[2].done()) == (here.place, False)
        here.bells.close()
        with pytest.raises(errors.Unavailable):
            await polls[2]


async def test_where_an_agent_polls_is_its_own_column(store: Store) -> None:
    agents = [facts.agent(), facts.agent()]
    await insert(store, agents=agents)
    await store.write(lambda tx: tx.save_polls_at(agents[0].id, "x"))
    found = [await store.read(lambda tx, a=a: tx.find_agent(a.id)) for a in agents]  # type: ignore[misc]
    assert [agent and agent.polls_at for agent in found] == ["x", None]
