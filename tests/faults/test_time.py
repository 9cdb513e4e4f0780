# SPDX-License-Identifier: Apache-2.0
"""F8, F25, F39: agents silent for longer than a lease, replicas with clocks of their own, wake-ups that are lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from heat_workflow.model import LEASE, NewTask
from heat_workflow.store.opening import open_store
from heat_workflow.taskqueue import TaskQueue, adding
from heat_workflow.taskqueue.polling import Polls
from heat_workflow.wakeup import Wakeups
from tests.faults import counts
from tests.harness import facts
from tests.harness.history import History
from tests.harness.invariants import check
from tests.harness.nemesis import let_pass
from tests.harness.nursery import Nursery
from tests.harness.recorded import RecordedOperator
from tests.harness.replicas import replicas

SABOTAGE = "tests.faults.sabotage"


def awaited(operator: RecordedOperator, workflow_id: str, state: str, count: int, within: float = 30) -> None:
    """Return once so many tasks of the workflow are in the state."""
    deadline = time.monotonic() + within
    while (seen := operator.call("GET", f"/v1/workflows/{workflow_id}").json()["counts"]).get(state, 0) < count:
        assert time.monotonic() < deadline, f"{count} tasks should be {state}, they are {seen}"
        time.sleep(0.05)


@pytest.mark.parametrize("leases", [1, 2, 10])
def test_f8_a_silent_agent_goes_on_with_its_own_task_and_loses_a_pool_task(
    leases: int, nursery: Nursery, tmp_path: Path, url: str, project: str, history: History
) -> None:
    count = counts.F8_ROUNDS
    with replicas(nursery, tmp_path, url, 1) as [api]:
        operator = RecordedOperator(history, [api.url], project)
        silent, other = operator.agent(server="s", capabilities=["pool"]), operator.agent(capabilities=["pool"])
        workflow_id = operator.workflow()
        for n in range(count):
            operator.task(workflow_id, f"pinned{n}", server="s")
            operator.task(workflow_id, f"pool{n}", capabilities=["pool"], max_attempts=2)
        taken = [silent.take() for _ in range(2 * count)]
        for task in taken:
            silent.start(task)
        let_pass(url, leases * LEASE + 1, workflow_id)
        awaited(operator, workflow_id, "stalled", count)
        awaited(operator, workflow_id, "ready", count)
        second = [other.take() for _ in range(count)]
        assert {task["attempt"] for task in second} == {2}
        for task in taken:
            fenced = task["name"].startswith("pool")
            assert silent.heartbeat(task).status_code == (409 if fenced else 200)
            assert silent.report(task).status_code == (409 if fenced else 200)
        for task in second:
            other.start(task)
            assert other.report(task).status_code == 200
    check(history, url, project)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"], indirect=True)
def test_f25_replicas_with_clocks_ten_minutes_apart_agree_on_every_lease(
    nursery: Nursery, tmp_path: Path, url: str, project: str, history: History
) -> None:
    skewed = [f"{SABOTAGE}:ten_minutes_ahead", f"{SABOTAGE}:ten_minutes_behind"]
    with (
        replicas(nursery, tmp_path, url, 1, before=skewed[0]) as [ahead],
        replicas(nursery, tmp_path, url, 1, before=skewed[1]) as [behind],
    ):
        both = [RecordedOperator(history, [replica.url], project) for replica in (ahead, behind)]
        agent = RecordedOperator(history, [ahead.url, behind.url], project).agent(server="s")
        workflow_id = both[0].workflow()
        for n in range(counts.F25_ROUNDS):
            timed: dict[str, Any] = {"timeout": 60, "pickup_timeout": 60, "deadline": 120, "server": "s"}
            task = both[n % 2].task(workflow_id, f"t{n}", **timed)
            taken = agent.take()
            assert 100 < taken["deadline_in"] <= 120
            agent.start(taken)
            agent.heartbeat(taken)
            if n % 5 == 0:
                time.sleep(1.2)  # each replica looks for what is overdue once a second
            for operator in both:
                assert operator.show(task)["state"] == "leased"
            assert agent.report(taken).status_code == 200
            shown = both[n % 2].show(task)
            moments = [shown[name] for name in ("created_at", "ready_at", "started_at", "finished_at")]
            assert moments == sorted(moments)
        lost = both[0].task(workflow_id, "lost", server="s", timeout=100)
        agent.start(agent.take())
        let_pass(url, LEASE - 5, workflow_id)
        time.sleep(1.2)
        assert both[1].show(lost)["state"] == "leased"
        let_pass(url, 6, workflow_id)
        awaited(both[0], workflow_id, "stalled", 1)
    check(history, url, project, over=False)


def _delivered(agent: Any, operator: RecordedOperator, server: str, waits: list[float]) -> None:
    """How long a task waits for the agent whose poll began before it came."""
    ready = threading.Event()

    def poll() -> None:
        ready.set()
        task = agent.take(wait=50)
        waits.append(time.monotonic() - began)
        agent.start(task)
        agent.report(task)

    polling = threading.Thread(target=poll)
    polling.start()
    ready.wait(10)
    time.sleep(0.3)  # so that the poll looks before the task is there
    began = time.monotonic()
    operator.task(operator.workflow(), server=server)
    polling.join(60)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_f39_g2_a_task_is_delivered_within_thirty_seconds_though_every_wake_up_is_lost(
    nursery: Nursery, tmp_path: Path, url: str, project: str, history: History
) -> None:
    with replicas(nursery, tmp_path, url, 1, before=f"{SABOTAGE}:deaf") as [api]:
        waits: list[float] = []
        threads = []
        for n in range(counts.F39_DELIVERIES):
            operator = RecordedOperator(history, [api.url], project)
            agent = operator.agent(server=f"s{n}")
            threads.append(threading.Thread(target=_delivered, args=(agent, operator, f"s{n}", waits)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert len(waits) == counts.F39_DELIVERIES
    print(f"{len(waits)} tasks delivered without a wake-up, after {min(waits):.1f} to {max(waits):.1f} s")
    assert 10 < max(waits) <= 30  # by the poll's own looks
    check(history, url, project)


class Deaf(Wakeups):
    """Wake-ups that all get lost."""

    def publish(self, keys: Mapping[str, int]) -> None:
        """Lose them."""


def test_f39_a_poll_looks_by_itself_on_every_store(url: str, project: str) -> None:
    async def deliver() -> None:
        store, deaf = open_store(url), Deaf(recheck=0.03)
        queue = TaskQueue(store, deaf)
        polls = Polls(queue, deaf)
        await queue.start()
        try:
            workflow = facts.workflow(project_id=project)
            await queue.write(lambda tx: tx.insert_workflow(workflow))
            for n in range(counts.F39_DELIVERIES):
                agent = facts.agent(project_id=project, capabilities=[f"c{n}"])
                await queue.write(lambda tx, a=agent: tx.insert_agent(a))  # type: ignore[misc]
                stays = asyncio.get_running_loop().create_future
                polling = asyncio.create_task(polls.claim(agent, facts.new_id(), 20, stays))
                while not polls.waiting(agent.id):
                    await asyncio.sleep(0)
                wanted = NewTask(name=f"t{n}", definition=facts.DEFINITION, spec={}, capabilities=[f"c{n}"])
                [task], _ = await queue.write(adding.add_tasks, project, workflow.id, [wanted])
                claimed = await asyncio.wait_for(polling, 5)
                assert claimed is not None
                assert claimed.task.id == task.id
        finally:
            await queue.close()

    asyncio.run(deliver())
