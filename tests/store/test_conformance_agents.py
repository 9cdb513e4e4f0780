# SPDX-License-Identifier: Apache-2.0
"""Conformance: agents, their attempts, security events, logs and hidden values."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
import sqlalchemy as sa

from heat_workflow import errors, model
from heat_workflow.model import AgentState
from heat_workflow.store import Store, Tx, tables
from heat_workflow.store.keyring import KeyRing
from tests.harness import facts
from tests.harness.stores import Database, insert, together

ALL_FIELDS: dict[str, object] = {
    "server": "s",
    "capabilities": ["server=s", "x"],
    "heat": {"stack_id": "1", "resource": "r"},
    "draining": True,
    "join_hash": "a" * 64,
    "join_expires_at": facts.NOON,
    "join_used_at": facts.NOON + 1 / 3,
    "join_used_by": "b" * 64,
    "cred_hash": "c" * 64,
    "cred_gen": 7,
    "cred_made_at": facts.NOON,
    "next_hash": "d" * 64,
    "prev_hash": "e" * 64,
    "prev_until": facts.NOON,
    "old_hashes": ["f" * 64],
    "nonce": "n",
    "hw_uuid": "h",
    "version": "1.2",
    "inventory": {"hostname": "ä", "python": [3, 11]},
    "last_seen_at": facts.NOON,
    "revoked_at": facts.NOON,
}


async def test_an_agent_comes_back_as_it_was_written_and_changed(store: Store) -> None:
    full, bare = facts.agent(**ALL_FIELDS), facts.agent()
    await insert(store, agents=[full, bare])
    assert await store.read(lambda tx: tx.find_agent(full.id)) == full
    assert await store.write(lambda tx: tx.lock_agent(bare.id)) == bare
    changed = dataclasses.replace(facts.agent(**ALL_FIELDS), id=bare.id, state=AgentState.REVOKED)
    await store.write(lambda tx: tx.save_agent(changed))
    assert await store.read(lambda tx: tx.find_agent(bare.id)) == changed
    assert await store.read(lambda tx: tx.find_agent(full.id)) == full
    assert await store.read(lambda tx: tx.find_agent(facts.new_id())) is None


async def test_an_agents_id_is_used_once_even_by_many_at_once(store: Store) -> None:
    agent = facts.agent()
    foreign = dataclasses.replace(agent, project_id=model.ProjectId("p2"))
    calls = [store.write(lambda tx, a=a: tx.insert_agent(a)) for a in (agent, foreign) * 8]  # type: ignore[misc]
    assert sorted(await together(*calls)) == [False] * 15 + [True]


async def test_changes_under_the_agents_lock_do_not_get_lost(store: Store) -> None:
    agent = facts.agent(cred_gen=0)
    await insert(store, agents=[agent])

    def rotate(tx: Tx) -> None:
        found = tx.lock_agent(agent.id)
        assert found is not None
        tx.save_agent(dataclasses.replace(found, cred_gen=found.cred_gen + 1))

    await asyncio.gather(*(store.write(rotate) for _ in range(30)))
    found = await store.read(lambda tx: tx.find_agent(agent.id))
    assert found is not None
    assert found.cred_gen == 30


async def test_when_agents_were_last_seen_is_written_for_many_at_once(store: Store) -> None:
    agents = [facts.agent() for _ in range(5)]
    await insert(store, agents=agents)
    await store.write(lambda tx: tx.save_last_seen({a.id: float(n) for n, a in enumerate(agents[:4])}))
    await store.write(lambda tx: tx.save_last_seen({}))
    found = [await store.read(lambda tx, a=a: tx.find_agent(a.id)) for a in agents]  # type: ignore[misc]
    assert [agent and agent.last_seen_at for agent in found] == [0.0, 1.0, 2.0, 3.0, None]


async def test_agents_are_listed_by_age_and_filtered(store: Store) -> None:
    agents = [facts.agent(created_at=facts.NOON + n // 2, last_seen_at=float(n), server=f"s{n}") for n in range(5)]
    never = facts.agent(created_at=facts.NOON + 9, version="2", state=AgentState.PENDING)
    foreign = facts.agent(project_id="p2", created_at=facts.NOON + 10)
    await insert(store, agents=[*agents, never, foreign])
    order = [a.id for a in sorted(agents, key=lambda a: (a.created_at, a.id))] + [never.id]

    async def ids(
        project: str | None = facts.PROJECT, marker: str | None = None, limit: int = 99, **filters: object
    ) -> list[str]:
        return [agent.id for agent in await store.read(lambda tx: tx.list_agents(project, filters, marker, limit))]

    assert await ids() == order
    assert await ids(None) == [*order, foreign.id]
    assert await ids(marker=order[2], limit=2) == order[3:5]
    assert await ids(marker=foreign.id) == []
    assert await ids(server="s3") == [agents[3].id]
    assert await ids(version="2") == await ids(state="pending") == [never.id]
    assert set(await ids(seen_before=2.0)) == {agents[0].id, agents[1].id, never.id}


async def test_the_able_agent_is_an_active_one_with_every_capability_heard_of_last(store: Store) -> None:
    held = ["gpu", 'say "a_b%"', "server=s1"]
    agents = {
        "old": facts.agent(capabilities=held, server="s1", last_seen_at=1.0),
        "best": facts.agent(capabilities=held, server="s1", last_seen_at=2.0),
        "pending": facts.agent(capabilities=held, server="s1", last_seen_at=9.0, state=AgentState.PENDING),
        "revoked": facts.agent(capabilities=[*held, "only"], last_seen_at=9.0, state=AgentState.REVOKED),
        "near": facts.agent(capabilities=["GPU", 'say "axbx"', "server=s12", "gpu2"], server="s12", last_seen_at=9.0),
        "by name": facts.agent(capabilities=["server=s3"], last_seen_at=3.0),
        "foreign": facts.agent(capabilities=held, project_id="p2", last_seen_at=9.0),
    }
    await insert(store, agents=list(agents.values()))

    async def able(*capabilities: str) -> str | None:
        found = await store.read(lambda tx: tx.find_able_agent(facts.PROJECT, capabilities))
        return None if found is None else next(name for name, agent in agents.items() if agent.id == found.id)

    assert await able("gpu") == await able("server=s1", "gpu") == await able('say "a_b%"') == "best"
    assert await able("only") is None
    assert await able("gpu", "GPU") is None
    assert await able("server=s3") == "by name"
    assert await able("server=s1", "gpu2") is None
    assert await able() == "near"


async def test_an_attempt_comes_back_as_it_was_written_and_ended(store: Store) -> None:
    workflow = facts.workflow()
    task = facts.task(workflow, attempt=2, claim_id=facts.new_id(), agent_id=facts.new_id())
    first, second = facts.attempt(task, attempt=1, claim_id=facts.new_id()), facts.attempt(task)
    ended = dataclasses.replace(
        second,
        finished_at=facts.NOON,
        result="failed",
        reason="why",
        digest="d" * 64,
        deploy_status_code=-(2**40),
        deploy_stdout="out\n\U0001f600" * 10_000,
        deploy_stderr="\x01\x1b[31m",
        outputs={"y": [1, {"z": None}], "a": "1"},
    )
    await insert(store, task, workflows=[workflow])

    def write(tx: Tx) -> None:
        tx.insert_attempt(second)
        tx.insert_attempt(first)
        tx.save_attempt(ended)

    await store.write(write)
    assert await store.read(lambda tx: tx.list_attempts(task.id)) == [first, ended]
    assert await store.read(lambda tx: tx.find_attempt(task.id, 2)) == ended
    assert await store.read(lambda tx: tx.find_attempt(task.id, 3)) is None
    assert await store.read(lambda tx: tx.find_claim(second.agent_id, second.claim_id)) == ended
    assert await store.read(lambda tx: tx.find_claim(facts.new_id(), second.claim_id)) is None
    never = facts.task(workflow, 2)
    assert await store.read(lambda tx: tx.last_attempts([task, never])) == {task.id: ended}
    assert await store.read(lambda tx: tx.last_attempts([])) == {}


async def test_security_events_are_listed_in_order_from_any_point(store: Store) -> None:
    agent, other = facts.agent(), facts.agent()
    await insert(store, agents=[agent, other])
    for n in range(5):
        await store.write(lambda tx, n=n: tx.insert_agent_event(agent, f"e{n}", {"n": n}))  # type: ignore[misc]
    await store.write(lambda tx: tx.insert_agent_event(other, "theirs", {}))
    found = await store.read(lambda tx: tx.list_agent_events(agent.id, 0, 99))
    assert [(event["type"], event["body"]) for event in found] == [(f"e{n}", {"n": n}) for n in range(5)]
    rest = await store.read(lambda tx: tx.list_agent_events(agent.id, found[1]["id"], 2))
    assert rest == found[2:4]


async def test_a_log_is_read_on_from_any_chunk(store: Store) -> None:
    def write(tx: Tx) -> None:
        for n in (2, 0, 1):
            tx.insert_log(task_id, 1, n, "stderr" if n == 1 else "stdout", f"line {n}\n\U0001f600")
        tx.insert_log(task_id, 2, 0, "stdout", "second attempt")

    task_id = facts.new_id()
    await store.write(write)
    found = await store.read(lambda tx: tx.list_log(task_id, 1, -1))
    assert [(chunk["n"], chunk["stream"]) for chunk in found] == [(0, "stdout"), (1, "stderr"), (2, "stdout")]
    assert found[2]["text"] == "line 2\n\U0001f600"
    assert await store.read(lambda tx: tx.list_log(task_id, 1, 1)) == found[2:]


async def test_hidden_values_are_sealed_anew_page_by_page(store: Store, empty: Database) -> None:
    workflow = facts.workflow()
    tasks = [facts.task(workflow, seq) for seq in range(4)]
    await insert(store, *tasks, workflows=[workflow])
    for task in tasks:
        await store.write(lambda tx, t=task: tx.seal(t, "input", {"x": t.seq}))  # type: ignore[misc]
    KeyRing.load(empty.key_file).with_new_key().save(empty.key_file)
    async with empty.replica() as (renewed, _):
        marker: tuple[str, str, str] | None = None
        pages: list[int] = []
        while not pages or marker is not None:
            count, marker = await renewed.write(lambda tx, m=marker: tx.reseal(m, 3))  # type: ignore[misc]
            pages.append(count)
        assert pages == [3, 1]
        assert await renewed.read(lambda tx: tx.count_readable_secrets()) == 4
        assert await renewed.read(lambda tx: tx.unseal(tasks[3], "input")) == {"x": 3}
    with pytest.raises(errors.Unavailable):  # the replica with the old ring
        await store.read(lambda tx: tx.count_readable_secrets())


async def test_hidden_values_are_ciphertext_in_their_own_row_alone(store: Store, empty: Database) -> None:
    workflow = facts.workflow()
    mine, other = facts.task(workflow, 1), facts.task(workflow, 2)
    await insert(store, mine, other, workflows=[workflow])
    values: dict[str, model.Json] = {"password": "canary-7f3c", "ä": {"deep": [1, None]}}
    await store.write(lambda tx: tx.seal(mine, "input", values))
    assert await store.read(lambda tx: tx.unseal(mine, "input")) == values
    assert await store.read(lambda tx: tx.unseal(mine, "output")) == {}
    engine = sa.create_engine(empty.url)
    with engine.begin() as connection:
        rows = connection.execute(sa.select(tables.secret)).fetchall()
        assert "canary" not in str(rows)
        for row in rows:  # S60: somebody with the database copies the rows to a task of their own
            connection.execute(sa.insert(tables.secret), {**row._mapping, "task_id": other.id})
    engine.dispose()
    with pytest.raises(errors.Unavailable):
        await store.read(lambda tx: tx.unseal(other, "input"))
    await store.write(lambda tx: tx.erase(other, "input"))
    assert await store.read(lambda tx: tx.count_readable_secrets()) == 2
    await store.write(lambda tx: tx.erase(mine, "input"))
    assert await store.read(lambda tx: tx.unseal(mine, "input")) == {}
    assert await store.read(lambda tx: tx.keyed_digest("a")) != await store.read(lambda tx: tx.keyed_digest("b"))


async def test_what_agents_did_to_a_task_is_found_by_the_task(store: Store) -> None:
    one, other, task_id = facts.agent(), facts.agent(), facts.new_id()
    await insert(store, agents=[one, other])

    def note(tx: Tx) -> None:
        tx.insert_agent_event(one, "refused", {"n": 1}, task_id)
        tx.insert_agent_event(one, "refused", {"n": 2})
        tx.insert_agent_event(other, "refused", {"n": 3}, task_id)
        tx.insert_agent_event(other, "refused", {"n": 4}, facts.new_id())

    await store.write(note)
    found = await store.read(lambda tx: tx.list_task_agent_events(task_id, 10))
    assert [(event["agent_id"], event["body"]) for event in found] == [(one.id, {"n": 1}), (other.id, {"n": 3})]
    assert len(await store.read(lambda tx: tx.list_task_agent_events(task_id, 1))) == 1


async def test_the_last_events_of_an_agent_are_told_the_newest_first(store: Store) -> None:
    mine, other = facts.agent(), facts.agent()
    await store.write(lambda tx: (tx.insert_agent(mine), tx.insert_agent(other)))
    for agent, kind in ((mine, "enrolled"), (other, "refused"), (mine, "rotated"), (mine, "refused")):
        await store.write(lambda tx, a=agent, k=kind: tx.insert_agent_event(a, k, {}))  # type: ignore[misc]
    found = await store.read(lambda tx: tx.recent_agent_events(mine.id, 2))
    assert [kind for kind, _ in found] == ["refused", "rotated"]
    assert all(at > 0 for _, at in found)
    assert await store.read(lambda tx: tx.recent_agent_events(facts.new_id(), 2)) == []
