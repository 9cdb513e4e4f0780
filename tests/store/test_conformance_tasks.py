# SPDX-License-Identifier: Apache-2.0
"""Conformance: tasks, their names, edges and definitions."""

from __future__ import annotations

import dataclasses

import pytest

from heat_workflow import model
from heat_workflow.model import TaskState
from heat_workflow.store import Store, Tx
from tests.harness import facts
from tests.harness.stores import insert, task_of

ALL_FIELDS: dict[str, object] = {
    "fanout": "f",
    "spec": {"input_values": {"b": 1, "a": None}, "timeout": 1.5},
    "capabilities": ["server=x", "y"],
    "priority": -7,
    "pending": 3,
    "attempt": 2,
    "claim_id": facts.new_id(),
    "agent_id": facts.new_id(),
    "detached": True,
    "confirmed": False,
    "undo_of": facts.new_id(),
    "batch": 4,
    "concurrency_key": "k",
    "started_at": facts.NOON + 0.000001,
    "finished_at": facts.NOON + 1 / 3,
    "not_before": facts.NOON,
    "lease_until": facts.NOON,
    "cancel_until": facts.NOON,
    "deadline_at": facts.NOON,
    "due_at": facts.NOON,
}


async def test_a_task_comes_back_as_it_was_written(store: Store) -> None:
    workflow = facts.workflow()
    full, bare = facts.task(workflow, 1, **ALL_FIELDS), facts.task(workflow, 2)
    await insert(store, full, bare, workflows=[workflow])
    assert await task_of(store, full.id) == full
    assert await store.read(lambda tx: tx.find_task(facts.PROJECT, bare.id)) == bare
    assert await store.read(lambda tx: tx.find_task("p2", bare.id)) is None
    assert await store.read(lambda tx: tx.find_task_any_project(facts.new_id())) is None


async def test_a_save_changes_the_row_it_compared_and_no_other(store: Store) -> None:
    workflow = facts.workflow()
    before, other = facts.task(workflow, 1), facts.task(workflow, 2)
    await insert(store, before, other, workflows=[workflow])
    after = dataclasses.replace(
        before,
        holds_name=False,
        state=TaskState.FAILED,
        status_reason="why",
        pending=1,
        attempt=1,
        attempts_left=0,
        claim_id=facts.new_id(),
        agent_id=facts.new_id(),
        detached=True,
        confirmed=True,
        ready_at=None,
        started_at=1.0,
        finished_at=2.0,
        not_before=3.0,
        lease_until=4.0,
        cancel_until=5.0,
        due_at=6.0,
    )
    assert await store.write(lambda tx: tx.save_task(before, after))
    assert await task_of(store, before.id) == after
    assert await task_of(store, other.id) == other


@pytest.mark.parametrize("meanwhile", [{"state": TaskState.CANCELLED}, {"attempt": 1}, {"pending": 1}])
async def test_a_save_over_a_move_of_somebody_else_changes_nothing(store: Store, meanwhile: dict[str, object]) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow)
    moved = dataclasses.replace(task, **meanwhile)  # type: ignore[arg-type]
    await insert(store, task, workflows=[workflow])
    assert await store.write(lambda tx: tx.save_task(task, moved))
    late = dataclasses.replace(task, state=TaskState.LEASED, agent_id=model.AgentId(facts.new_id()))
    assert not await store.write(lambda tx: tx.save_task(task, late))
    assert await task_of(store, task.id) == moved


async def test_a_save_leaves_alone_what_it_did_not_change(store: Store) -> None:
    """A heartbeat that read the task before it lost its name must not give the name back."""
    workflow = facts.workflow()
    task = facts.task(workflow, state=TaskState.LEASED, attempt=1)
    await insert(store, task, workflows=[workflow])
    assert await store.write(lambda tx: tx.save_task(task, dataclasses.replace(task, holds_name=False)))
    assert await store.write(lambda tx: tx.save_task(task, dataclasses.replace(task, lease_until=9.0)))
    assert await store.write(lambda tx: tx.save_task(task, task))
    assert await task_of(store, task.id) == dataclasses.replace(task, holds_name=False, lease_until=9.0)


async def test_a_changed_spec_is_written_with_priority_and_deadline(store: Store) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow)
    await insert(store, task, workflows=[workflow])
    changed = dataclasses.replace(task, spec={"timeout": 3}, priority=5, deadline_at=7.0, due_at=7.0)
    await store.write(lambda tx: tx.save_spec(changed))
    assert await task_of(store, task.id) == changed


async def test_tasks_are_listed_in_order_by_page_and_state(store: Store) -> None:
    workflow, other = facts.workflow(), facts.workflow()
    states = [TaskState.READY, TaskState.FAILED, TaskState.READY, TaskState.READY]
    tasks = [facts.task(workflow, seq, state=state) for seq, state in enumerate(states, 1)]
    await insert(store, *reversed(tasks), facts.task(other), workflows=[workflow, other])

    async def seqs(state: str | None = None, marker: str | None = None, limit: int | None = None) -> list[int]:
        found = await store.read(lambda tx: tx.list_tasks(workflow.id, state=state, marker=marker, limit=limit))
        return [task.seq for task in found]

    assert await seqs() == [1, 2, 3, 4]
    assert await seqs(state="ready") == [1, 3, 4]
    assert await seqs(limit=2) == [1, 2]
    assert await seqs(marker=tasks[1].id) == [3, 4]
    assert await seqs(state="ready", marker=tasks[0].id, limit=1) == [3]
    assert await seqs(marker=facts.new_id()) == []
    assert await store.read(lambda tx: tx.next_task_seq(workflow.id)) == 5
    assert await store.read(lambda tx: tx.next_task_seq(facts.new_id())) == 1


async def test_a_name_finds_its_newest_holder_and_a_fanout_its_members(store: Store) -> None:
    workflow, other = facts.workflow(), facts.workflow()
    old = facts.task(workflow, 1, name="a", holds_name=False)
    new = facts.task(workflow, 2, name="a")
    members = [facts.task(workflow, 3 + n, name=f"f/{n}", fanout="f") for n in range(3)]
    await insert(store, old, new, *members, facts.task(other, 1, name="a"), workflows=[workflow, other])

    async def seqs(*names: str) -> list[int]:
        return [task.seq for task in await store.read(lambda tx: tx.find_names(workflow.id, names))]

    assert await seqs("a") == [2]
    assert await seqs("f") == [3, 4, 5]
    assert await seqs("f/1", "a", "a") == [2, 4]
    assert await seqs(old.id) == [1]
    assert await seqs("none") == []
    assert await seqs() == []
    assert len(await seqs(*(f"n{n}" for n in range(1200)), "a", "f")) == 4


async def test_edges_lead_both_ways(store: Store) -> None:
    workflow = facts.workflow()
    a, b, c = (facts.task(workflow, seq) for seq in (1, 2, 3))
    await insert(store, a, b, c, workflows=[workflow])
    await store.write(lambda tx: tx.insert_requirements(workflow.id, [(c.id, b.id), (c.id, a.id), (b.id, a.id)]))
    assert await store.read(lambda tx: tx.requirements_of(c.id)) == [a, b]
    states = await store.read(lambda tx: tx.requirement_states(c.id))
    assert sorted(states) == sorted([(a.id, TaskState.READY), (b.id, TaskState.READY)])
    assert await store.read(lambda tx: tx.dependants_of(a.id)) == [b, c]
    assert await store.read(lambda tx: tx.dependants_of(c.id)) == []
    edges = await store.read(lambda tx: tx.list_requirements(workflow.id))
    assert sorted(edges) == sorted([(c.id, b.id), (c.id, a.id), (b.id, a.id)])


async def test_a_definition_is_kept_once_per_project(store: Store) -> None:
    mine, theirs = facts.workflow(), facts.workflow(project_id="p2")
    await insert(store, facts.task(mine), workflows=[mine, theirs])

    def write(tx: Tx) -> None:
        again = facts.task(mine, 2)
        tx.insert_tasks([again], {again.definition_id: {"other": "content under the same digest is not looked at"}})
        foreign = facts.task(theirs)
        tx.insert_tasks([foreign], {foreign.definition_id: {"group": "theirs"}})
        tx.insert_tasks([], {})

    await store.write(write)
    assert await store.read(lambda tx: tx.get_definition(facts.PROJECT, facts.DEFINITION_ID)) == facts.DEFINITION
    assert await store.read(lambda tx: tx.get_definition("p2", facts.DEFINITION_ID)) == {"group": "theirs"}


@pytest.mark.parametrize("state", TaskState)
async def test_unfinished_and_attached_tasks_are_seen(store: Store, state: TaskState) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow, state=state)
    await insert(store, task, workflows=[workflow])
    assert await store.read(lambda tx: tx.has_unfinished(workflow.id)) is (state in model.UNFINISHED)
    assert await store.read(lambda tx: tx.has_attached(workflow.id)) is True
    await store.write(lambda tx: tx.save_task(task, dataclasses.replace(task, detached=True)))
    assert await store.read(lambda tx: tx.has_attached(workflow.id)) is False


async def test_tasks_whose_time_has_come_are_listed_the_oldest_first(store: Store) -> None:
    workflow, foreign = facts.workflow(), facts.workflow(project_id="p2")
    now = await store.read(lambda tx: tx.now)
    late, later = facts.task(workflow, 1, due_at=now - 10), facts.task(foreign, 2, due_at=now - 20)
    others = [facts.task(workflow, 3, due_at=now + 1000), facts.task(workflow, 4)]
    await insert(store, late, later, *others, workflows=[workflow, foreign])
    assert await store.read(lambda tx: tx.list_due(10)) == [later, late]
    assert await store.read(lambda tx: tx.list_due(1)) == [later]
    assert await store.read(lambda tx: tx.due_ids(10)) == [later.id, late.id]
    assert await store.read(lambda tx: tx.due_ids(1)) == [later.id]


async def test_a_fanout_is_seen_by_batch_and_state(store: Store) -> None:
    workflow = facts.workflow()
    states = [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.READY, TaskState.WAITING]
    members = [
        facts.task(workflow, n, name=f"f/{n}", fanout="f", batch=n // 2, state=state) for n, state in enumerate(states)
    ]
    gone = facts.task(workflow, 9, name="f/0", fanout="f", batch=0, state=TaskState.FAILED, holds_name=False)
    await insert(store, *members, gone, workflows=[workflow])
    assert await store.read(lambda tx: tx.list_fanout(workflow.id, "f", 0)) == members[:2]
    assert await store.read(lambda tx: tx.list_fanout(workflow.id, "f", 2)) == []
    counts = {"succeeded": 1, "failed": 1, "ready": 1, "waiting": 1}
    assert await store.read(lambda tx: tx.count_fanout(workflow.id, "f")) == counts
    assert await store.read(lambda tx: tx.batch_unfinished(workflow.id, "f", 0)) is False
    assert await store.read(lambda tx: tx.batch_unfinished(workflow.id, "f", 1)) is True


async def test_the_tasks_that_undo_a_task_are_found(store: Store) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow)
    undo = facts.task(workflow, 2, undo_of=task.id, action="UNDO")
    await insert(store, task, undo, workflows=[workflow])
    assert await store.read(lambda tx: tx.undo_tasks(task.id)) == [undo]
    assert await store.read(lambda tx: tx.undo_tasks(undo.id)) == []


async def test_the_tasks_an_agent_holds_are_those_it_may_be_running(store: Store) -> None:
    workflow = facts.workflow()
    me = facts.new_id()
    tasks = [facts.task(workflow, seq, state=state, agent_id=me) for seq, state in enumerate(TaskState)]
    other = facts.task(workflow, 99, state=TaskState.LEASED, agent_id=facts.new_id())
    await insert(store, *tasks, other, workflows=[workflow])
    held = await store.read(lambda tx: tx.held_tasks(me))
    assert {task.state for task in held} == model.HELD
    assert all(task.agent_id == me for task in held)


async def test_what_agents_run_is_listed_for_many_at_once(store: Store) -> None:
    workflow, one, other, idle = facts.workflow(), facts.new_id(), facts.new_id(), facts.new_id()
    owners = [(one, TaskState.LEASED), (one, TaskState.STALLED), (one, TaskState.SUCCEEDED), (other, TaskState.LEASED)]
    tasks = [
        facts.task(workflow, n, agent_id=owner, state=state, started_at=float(n))
        for n, (owner, state) in enumerate(owners)
    ]
    await insert(store, *tasks, workflows=[workflow])
    found = await store.read(lambda tx: tx.running_tasks([one, other, idle]))
    assert found == {one: [tasks[0].id, tasks[1].id], other: [tasks[3].id]}
    assert await store.read(lambda tx: tx.running_tasks([])) == {}
