# SPDX-License-Identifier: Apache-2.0
"""Groups: turns that come together are decided one after the other, written by set and committed once (Q1 to Q9)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from heat_workflow import errors, model
from heat_workflow.model import TaskState
from heat_workflow.store import Asks, Store, Tx, tables
from heat_workflow.store.group.backlog import Backlog
from heat_workflow.taskqueue import adding, cancelling, claiming, reporting
from tests.harness import facts
from tests.harness.cutting import replica_behind
from tests.harness.stores import Database, claim, insert, report, said, task_of, together


@contextlib.asynccontextmanager
async def in_one_group(store: Store) -> AsyncIterator[list[Any]]:
    """What is put into the list is run in one group; it holds the results afterwards."""
    calls: list[Any] = []
    yield calls
    gate, there = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        there.set()
        gate.wait(30)

    holding: asyncio.Task[None] | None = None
    if store.shared:  # a thread that is held up in the group before takes all of them together
        holding = asyncio.create_task(store.turn(Asks(facts.new_id()), hold))
        await asyncio.to_thread(there.wait, 30)
    waiting = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    gate.set()
    calls[:] = await together(*waiting)
    if holding is not None:
        await holding


async def attempts_of(store: Store, task_id: str) -> list[model.Attempt]:
    return await store.read(lambda tx: tx.list_attempts(task_id))


async def events_of(store: Store, workflow_id: str) -> list[model.Event]:
    return await store.read(lambda tx: tx.list_events(workflow_id, 0, 999))


async def leased(store: Store, *tasks: model.Task, **changes: Any) -> list[model.Task]:
    """The ready tasks of the store, each claimed by an agent of its own."""
    agents = [facts.agent(**changes) for _ in tasks]
    await insert(store, agents=agents)
    claims = [await claim(store, agent.id) for agent in agents]
    return [claimed.task for claimed in claims if claimed is not None]


async def test_q4_one_claim_id_twice_in_a_group_is_one_claim(store: Store) -> None:
    workflow, agent, claim_id = facts.workflow(), facts.agent(), facts.new_id()
    tasks = [facts.task(workflow, n) for n in range(3)]
    await insert(store, *tasks, workflows=[workflow], agents=[agent])
    async with in_one_group(store) as calls:
        calls += [claim(store, agent.id, claim_id) for _ in range(3)]
    assert [claimed.task.id for claimed in calls] == [tasks[0].id] * 3
    assert len(await attempts_of(store, tasks[0].id)) == 1


async def test_q4_one_report_twice_in_a_group_is_one_report_and_another_is_refused(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, facts.task(workflow), workflows=[workflow])
    (task,) = await leased(store, facts.task(workflow))
    other = said(task, TaskState.FAILED, digest="e")
    async with in_one_group(store) as calls:
        calls += [report(store, task), report(store, task), report(store, task, other)]
    assert [done.state for done in calls[:2]] == [TaskState.SUCCEEDED] * 2
    assert isinstance(calls[2], errors.Conflict)
    assert calls[2].code == "fenced"
    types = [event.type for event in await events_of(store, workflow.id)]
    assert types == ["task-leased", "task-succeeded"]


async def test_q4_two_agents_and_one_task_in_a_group(store: Store) -> None:
    workflow, agents = facts.workflow(), [facts.agent(), facts.agent()]
    task = facts.task(workflow)
    await insert(store, task, workflows=[workflow], agents=agents)
    async with in_one_group(store) as calls:
        calls += [claim(store, agent.id) for agent in agents]
    assert calls[0].task.id == task.id
    assert calls[1] is None
    assert (await task_of(store, task.id)).agent_id == agents[0].id


async def test_q4_a_report_readies_what_the_next_turn_of_the_group_takes(store: Store) -> None:
    workflow, idle = facts.workflow(), facts.agent()
    await insert(store, workflows=[workflow], agents=[idle])
    wanted = [new_task("a"), new_task("b"), new_task("c", requires=("a", "b"))]
    added, _ = await store.write(lambda tx: adding.add_tasks(tx, facts.PROJECT, workflow.id, wanted))
    tasks = await leased(store, *added[:2])
    async with in_one_group(store) as calls:
        calls += [*(report(store, task) for task in tasks), claim(store, idle.id)]
    assert [done.state for done in calls[:2]] == [TaskState.SUCCEEDED] * 2
    assert calls[2].task.id == added[2].id
    types = [event.type for event in await events_of(store, workflow.id) if event.task_id == added[2].id]
    assert types == ["task-added", "task-ready", "task-leased"]
    assert [event.seq for event in await events_of(store, workflow.id)] == list(range(1, 12))


def new_task(name: str, **fields: Any) -> model.NewTask:
    return model.NewTask(name=name, definition=facts.DEFINITION, spec={}, **fields)


async def test_q4_a_key_that_three_want_in_a_group_goes_to_one_and_back(store: Store) -> None:
    workflow, agents = facts.workflow(), [facts.agent() for _ in range(3)]
    tasks = [facts.task(workflow, n, concurrency_key="k") for n in range(3)]
    await insert(store, *tasks, workflows=[workflow], agents=agents)
    async with in_one_group(store) as calls:
        calls += [claim(store, agent.id) for agent in agents]
    assert [claimed and claimed.task.id for claimed in calls] == [tasks[0].id, None, None]
    first = calls[0].task
    async with in_one_group(store) as calls:
        calls += [claim(store, agents[1].id), report(store, first), claim(store, agents[2].id)]
    assert calls[0] is None
    assert calls[2].task.id == tasks[1].id
    assert await store.read(lambda tx: tx.key_holder(facts.PROJECT, "k")) == tasks[1].id


async def test_q4_report_and_cancel_at_once_the_first_commit_wins(empty: Database) -> None:
    async with empty.replica() as (store, _):
        for _ in range(8):
            workflow = facts.workflow()
            await insert(store, facts.task(workflow), workflows=[workflow])
            (task,) = await leased(store, facts.task(workflow))
            cancel = functools.partial(
                cancelling.cancel_task,
                project_id=facts.PROJECT,
                workflow_id=workflow.id,
                task_id=task.id,
                reason="enough",
            )
            done, cancelled = await together(report(store, task), store.write(cancel))
            assert done.state is TaskState.SUCCEEDED
            assert cancelled.state in (TaskState.SUCCEEDED, TaskState.CANCELLING)
            assert (await task_of(store, task.id)).state is TaskState.SUCCEEDED


async def test_q4_a_turn_that_is_refused_leaves_no_trace_in_its_group(store: Store) -> None:
    workflow, agents = facts.workflow(), [facts.agent(), facts.agent()]
    task = facts.task(workflow, concurrency_key="k")
    await insert(store, task, workflows=[workflow], agents=agents)

    def spoilt(tx: Tx) -> None:
        assert claiming.claim(tx, agents[0].id, "c") is not None
        raise RuntimeError("spoilt")

    async with in_one_group(store) as calls:
        calls += [store.turn(Asks(agents[0].id, claim_id="c"), spoilt), claim(store, agents[1].id)]
    assert isinstance(calls[0], RuntimeError)
    assert calls[1].task.agent_id == agents[1].id
    assert calls[1].task.attempt == 1
    assert [made.agent_id for made in await attempts_of(store, task.id)] == [agents[1].id]
    types = [event.type for event in await events_of(store, workflow.id)]
    assert types == ["task-leased"]


async def test_q6_what_cannot_be_written_fails_alone(store: Store) -> None:
    workflow = facts.workflow()
    await insert(store, *(facts.task(workflow, n) for n in range(9)), workflows=[workflow])
    tasks = await leased(store, *(facts.task(workflow, n) for n in range(9)))
    async with in_one_group(store) as calls:
        calls += [
            report(store, task, said(task, deploy_stdout="\ud800" if n == 4 else "")) for n, task in enumerate(tasks)
        ]
    assert isinstance(calls[4], Exception)
    assert [done.state for n, done in enumerate(calls) if n != 4] == [TaskState.SUCCEEDED] * 8
    assert (await task_of(store, tasks[4].id)).state is TaskState.LEASED
    assert [event.seq for event in await events_of(store, workflow.id)] == list(range(1, 18))


async def test_q3_what_does_not_fit_hides_nothing_that_does(store: Store) -> None:
    """More tasks in front than a group loads, of a capability that nobody has or of a key that is taken."""
    workflow, agents = facts.workflow(), [facts.agent() for _ in range(3)]
    unfit = [facts.task(workflow, n, capabilities=["never"], priority=9) for n in range(60)]
    keyed = [facts.task(workflow, 60 + n, concurrency_key="k", priority=8) for n in range(60)]
    await insert(store, *unfit, *keyed, facts.task(workflow, 200), workflows=[workflow], agents=agents)
    async with in_one_group(store) as calls:
        calls += [claim(store, agent.id) for agent in agents]
    assert {claimed and claimed.task.seq for claimed in calls} == {60, 200, None}


async def test_q2_a_report_that_comes_twice_at_once_is_good_both_times(empty: Database) -> None:
    """In a group and alone, at two replicas: the second sees what the first has recorded, and none is refused."""
    async with empty.replica() as (one, _), empty.replica() as (other, _):
        second = other if one.shared else one
        for _ in range(10):
            workflow = facts.workflow()
            await insert(one, facts.task(workflow), workflows=[workflow])
            (task,) = await leased(one, facts.task(workflow))
            done = await together(report(one, task), report(second, task, alone=True), report(second, task))
            assert [getattr(each, "state", each) for each in done] == [TaskState.SUCCEEDED] * 3
            types = [event.type for event in await events_of(one, workflow.id)]
            assert types == ["task-leased", "task-succeeded"]


@pytest.mark.parametrize("status", [TaskState.SUCCEEDED, TaskState.FAILED])
async def test_q7_what_groups_do_not_load_runs_alone_among_the_others(store: Store, status: TaskState) -> None:
    """The last task of a sealed workflow, one with hidden values, and those whose failure skips others."""
    sealed, workflow = facts.workflow(sealed=True), facts.workflow()
    last = facts.task(sealed, 0, priority=9)
    wanted = [new_task("a"), new_task("b", requires=("a",))]
    await insert(store, last, workflows=[sealed, workflow])
    await store.write(lambda tx: adding.add_tasks(tx, facts.PROJECT, workflow.id, wanted))
    plain = [facts.task(workflow, 10 + n, name=f"plain-{n}") for n in range(4)]
    await insert(store, *plain)
    tasks = await leased(store, last, *plain, plain[0])
    assert len(tasks) == 6
    async with in_one_group(store) as calls:
        calls += [report(store, task, said(task, status)) for task in tasks]
    assert [done.state for done in calls] == [status] * 6
    found = await store.read(lambda tx: tx.find_workflow(facts.PROJECT, sealed.id))
    assert found is not None
    assert found.state.value == status.value
    (b,) = await store.read(lambda tx: tx.find_names(workflow.id, ["b"]))
    assert b.state is (TaskState.READY if status is TaskState.SUCCEEDED else TaskState.SKIPPED)


async def test_q5_long_values_come_back_whole_from_a_group(store: Store) -> None:
    """Past what MariaDB's text and varchar hold: it would cut them without a word."""
    workflow = facts.workflow()
    await insert(store, *(facts.task(workflow, n) for n in range(2)), workflows=[workflow])
    tasks = await leased(store, *(facts.task(workflow, n) for n in range(2)))
    long = "é" * 70_000 + " "
    async with in_one_group(store) as calls:
        calls += [
            report(store, tasks[0], said(tasks[0], deploy_stdout=long, outputs={"y": long[:40_000]})),
            report(store, tasks[1], said(tasks[1], TaskState.FAILED, deploy_stderr=long, reason="r" * 2000)),
        ]
    first, second = [(await attempts_of(store, task.id))[0] for task in tasks]
    assert first.deploy_stdout == long
    assert first.outputs == {"y": long[:40_000]}
    assert second.deploy_stderr == long
    assert second.reason == "r" * 1024
    assert (await task_of(store, tasks[1].id)).status_reason == "r" * 1024


# -- on servers, where workflows are locked and other replicas are about


@contextlib.contextmanager
def locked(url: str, workflow: model.Workflow) -> Iterator[None]:
    """Another process holds the workflow's row."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.select(tables.workflow).where(tables.workflow.c.id == workflow.id).with_for_update())
        yield
    engine.dispose()


async def test_q1_turns_of_a_locked_workflow_wait_and_the_others_go_on(
    shared: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with shared.replica() as (store, _):
        workflow, other = facts.workflow(), facts.workflow()
        agents = [facts.agent() for _ in range(3)]
        await insert(store, facts.task(workflow), workflows=[workflow, other], agents=agents)
        (held,) = await leased(store, facts.task(workflow))
        await insert(store, facts.task(workflow, 1, priority=5), facts.task(other, 2))
        with locked(shared.url, workflow):
            waiting = asyncio.create_task(report(store, held))
            async with asyncio.timeout(5):
                claimed = await claim(store, agents[0].id)
            assert claimed is not None
            assert claimed.task.workflow_id == other.id  # the more urgent one is stepped around
            assert not waiting.done()
            second = asyncio.create_task(claim(store, agents[1].id))
            await asyncio.wait([second], timeout=0.3)
            assert not second.done()  # there is work: nothing is not said (Q3)
        assert (await waiting).state is TaskState.SUCCEEDED
        following = await second
        assert following is not None
        assert following.task.workflow_id == workflow.id
    assert "failed" not in caplog.text


async def test_q1_replicas_that_want_the_same_workflows_meet_no_deadlock(shared: Database) -> None:
    async with shared.replica() as (here, _), shared.replica() as (there, _):
        workflows = [facts.workflow() for _ in range(4)]
        agents = [facts.agent() for _ in range(16)]
        tasks = [facts.task(workflows[n % 4], n) for n in range(160)]
        await insert(here, *tasks, workflows=workflows, agents=agents)
        deadlocks = _deadlocks(shared.url)

        async def work(store: Store, agent: model.Agent) -> int:
            claimed, count = await claim(store, agent.id), 0
            while claimed is not None:
                await report(store, claimed.task)
                claimed, count = await claim(store, agent.id), count + 1
            return count

        done = await asyncio.gather(*(work((here, there)[n % 2], agent) for n, agent in enumerate(agents)))
        assert sum(done) == 160
        assert _deadlocks(shared.url) == deadlocks
        for workflow in workflows:
            assert [event.seq for event in await events_of(here, workflow.id)] == list(range(1, 81))


def _deadlocks(url: str) -> int:
    engine = sa.create_engine(url)
    query = (
        "SELECT sum(deadlocks) FROM pg_stat_database"
        if engine.dialect.name == "postgresql"
        else "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_DEADLOCKS'"
    )
    with engine.connect() as connection:
        count = int(connection.exec_driver_sql(query).scalar_one())
    engine.dispose()
    return count


async def test_q17_a_group_of_64_takes_as_many_statements_as_one_of_8(shared: Database) -> None:
    async with shared.replica() as (store, _):
        counts = []
        for size in (8, 64):
            workflow = facts.workflow()
            await insert(store, *(facts.task(workflow, n) for n in range(2 * size)), workflows=[workflow])
            tasks = await leased(store, *(facts.task(workflow, n) for n in range(size)))
            async with in_one_group(store) as calls:
                calls += [_turn(store, task) for task in tasks]  # the first one runs while the statements are heard
                statements = _hear(store)
            assert [done.state for done, _ in calls] == [TaskState.SUCCEEDED] * size
            assert len({claimed.task.id for _, claimed in calls}) == size
            counts.append(len(statements()))
            await store.write(lambda tx, w=workflow: tx.delete_workflow(w.id))  # type: ignore[misc]
        assert counts[0] == counts[1]
        assert counts[0] <= 24


async def _turn(store: Store, task: model.Task) -> Any:
    one, claim_id, agent_id = said(task), facts.new_id(), str(task.agent_id)
    asks = reporting.asks(agent_id, task.id, one, claim_id)
    return await store.turn(asks, lambda tx: claiming.report_and_claim(tx, agent_id, task.id, one, claim_id))


def _hear(store: Store) -> Callable[[], list[str]]:
    """The statements of the store's groups from now on, until they are asked for."""
    engine: sa.Engine = store._engine  # type: ignore[attr-defined]
    heard: list[str] = []

    def note(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if threading.current_thread().name == "store-turns":
            heard.append(text)

    sa.event.listen(engine, "before_cursor_execute", note)

    def stop() -> list[str]:
        sa.event.remove(engine, "before_cursor_execute", note)
        return heard

    return stop


async def test_q1_a_group_locks_its_workflows_at_once_before_it_writes(shared: Database) -> None:
    async with shared.replica() as (store, _):
        workflows = [facts.workflow() for _ in range(3)]
        await insert(store, *(facts.task(workflows[n % 3], n) for n in range(12)), workflows=workflows)
        tasks = await leased(store, *(facts.task(workflows[0], n) for n in range(6)))
        async with in_one_group(store) as calls:
            calls += [_turn(store, task) for task in tasks]
            statements = _hear(store)
        heard = statements()
        locks = [n for n, text in enumerate(heard) if " FOR UPDATE" in text or " FOR NO KEY UPDATE" in text]
        writes = [n for n, text in enumerate(heard) if text.startswith(("UPDATE", "INSERT", "DELETE"))]
        assert len(locks) == 1
        assert "ORDER BY x.id" in heard[locks[0]]
        assert locks[0] < min(writes)
        assert "BEGIN" in heard[: locks[0]]


async def test_q6_a_changed_row_makes_the_group_run_again(shared: Database) -> None:
    """Somebody who holds no workflow writes in between: it is not overwritten, and nobody is refused."""
    async with shared.replica() as (store, _):
        workflow = facts.workflow()
        await insert(store, facts.task(workflow), workflows=[workflow])
        (task,) = await leased(store, facts.task(workflow))
        runs: list[int] = []
        engine = sa.create_engine(shared.url)

        def meddle(tx: Tx) -> model.Task:
            runs.append(1)
            if len(runs) == 1:
                with engine.begin() as connection:
                    connection.execute(sa.update(tables.task).where(tables.task.c.id == task.id).values(pending=7))
            return reporting.report(tx, str(task.agent_id), task.id, said(task))

        done = await store.turn(reporting.asks(str(task.agent_id), task.id, said(task)), meddle)
        engine.dispose()
        assert len(runs) == 2
        assert (done.state, done.pending) == (TaskState.SUCCEEDED, 7)
        types = [event.type for event in await events_of(store, workflow.id)]
        assert types == ["task-leased", "task-succeeded"]


async def test_f27_q6_a_group_whose_commit_is_lost_is_not_run_again_by_itself(shared: Database) -> None:
    """Whether it is on the disk nobody here can know; whoever asked has to ask again. Who waits for news hears it."""
    async with replica_behind(shared) as (proxy, store):
        for after in (False, True):
            workflow = facts.workflow()
            await insert(store, *(facts.task(workflow, n) for n in range(3)), workflows=[workflow])
            tasks = await leased(store, *(facts.task(workflow, n) for n in range(3)))
            cuts = proxy.cuts
            async with in_one_group(store) as calls:
                calls += [report(store, task) for task in tasks]
                proxy.arm(b"task-succeeded", b"COMMIT", after)
            assert [type(result) for result in calls] == [errors.Unavailable] * 3
            assert proxy.cuts == cuts + 1
            states = [(await task_of(store, task.id)).state for task in tasks]
            assert states == [TaskState.SUCCEEDED if after else TaskState.LEASED] * 3
            async with in_one_group(store) as calls:
                calls += [report(store, task) for task in tasks]
            assert [done.state for done in calls] == [TaskState.SUCCEEDED] * 3


async def test_q6_a_connection_lost_before_the_commit_costs_another_run_and_nothing_else(shared: Database) -> None:
    async with replica_behind(shared) as (proxy, store):
        workflow = facts.workflow()
        await insert(store, *(facts.task(workflow, n) for n in range(3)), workflows=[workflow])
        tasks = await leased(store, *(facts.task(workflow, n) for n in range(3)))
        async with in_one_group(store) as calls:
            calls += [report(store, task) for task in tasks]
            proxy.arm(tasks[0].id.encode(), b"task-succeeded", False)
        assert [done.state for done in calls] == [TaskState.SUCCEEDED] * 3
        assert proxy.cuts == 1


async def test_closing_finishes_what_has_queued_up(empty: Database) -> None:
    workflow, agents = facts.workflow(), [facts.agent() for _ in range(30)]
    async with empty.replica() as (store, _):
        await insert(store, *(facts.task(workflow, n) for n in range(30)), workflows=[workflow], agents=agents)
        claims = [asyncio.create_task(claim(store, agent.id)) for agent in agents]
        await asyncio.sleep(0)
    got = await asyncio.gather(*claims)
    assert len({claimed.task.id for claimed in got if claimed is not None}) == 30


async def test_q9_claims_are_refused_before_reports_when_too_many_wait() -> None:
    backlog, loop = Backlog(), asyncio.get_running_loop()
    a_claim, a_report = Asks("a", claim_id="c"), Asks("a", task=("t", 1), size=10)
    waiting = [loop.create_future() for _ in range(4096)]
    for future in waiting[:3072]:
        backlog.enter(a_claim, future)
    with pytest.raises(errors.Unavailable) as refusal:
        backlog.enter(a_claim, loop.create_future())
    assert refusal.value.retry_after
    for future in waiting[3072:]:
        backlog.enter(a_report, future)
    with pytest.raises(errors.Unavailable):
        backlog.enter(a_report, loop.create_future())
    for future in waiting:
        future.set_result(None)
    await asyncio.sleep(0)
    assert (backlog.turns, backlog.size) == (0, 0)
    with pytest.raises(errors.Unavailable):
        backlog.enter(Asks("a", task=("t", 1), size=65 * 1024 * 1024), loop.create_future())


async def test_q9_a_claim_whose_caller_has_left_takes_nothing(store: Store) -> None:
    workflow, agents = facts.workflow(), [facts.agent(), facts.agent()]
    await insert(store, facts.task(workflow, 1), facts.task(workflow, 2), workflows=[workflow], agents=agents)

    async def left() -> None:
        claiming_task = asyncio.create_task(claim(store, agents[0].id))
        await asyncio.sleep(0)
        claiming_task.cancel()

    async with in_one_group(store) as calls:
        calls += [left(), claim(store, agents[1].id)]
    assert calls[1].task.agent_id == agents[1].id
    assert await store.read(lambda tx: tx.held_tasks(agents[0].id)) == []
