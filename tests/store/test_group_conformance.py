# SPDX-License-Identifier: Apache-2.0
"""Conformance of groups: what comes of turns run together is what comes of them one by one (Q4, Q7, Q16)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from heat_workflow import errors, model
from heat_workflow.model import AgentState, TaskState
from heat_workflow.store import Asks, Store, Tx, tables
from heat_workflow.taskqueue import adding, claiming, reporting
from tests.faults import counts
from tests.harness import facts
from tests.harness.stores import Database, Ears, insert, said

WORKFLOWS = 3
AGENTS = 5
_TIMES = {"at"} | {column.name for table in tables.metadata.sorted_tables for column in table.c if "_at" in column.name}
_TIMES |= {"lease_until", "cancel_until", "not_before"}
SHOWN = (tables.workflow, tables.task, tables.attempt, tables.event, tables.lock, tables.secret)


def _id(*parts: object) -> Any:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))))


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one agent asks: a report of the task that one of its claims gave, a claim, or both."""

    agent: int
    claim: int | None
    reports: int | None = None  # the number of an earlier claim
    status: TaskState = TaskState.SUCCEEDED
    digest: str = "d"
    outputs: bool = False
    breaks: bool = False  # raises after all it did


turns = st.builds(
    Turn,
    agent=st.integers(0, AGENTS - 1),
    claim=st.none() | st.integers(0, 3),
    reports=st.none() | st.integers(0, 3),
    status=st.sampled_from([TaskState.SUCCEEDED, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.TIMED_OUT]),
    digest=st.sampled_from("de"),
    outputs=st.booleans(),
    breaks=st.integers(0, 9).map(lambda n: n == 0),
).filter(lambda turn: turn.claim is not None or turn.reports is not None)
new_tasks = st.lists(
    st.fixed_dictionaries(
        {
            "workflow": st.integers(0, WORKFLOWS - 1),
            "requires": st.sets(st.integers(1, 4), max_size=3),  # so many before it in its workflow
            "concurrency_key": st.sampled_from([None, None, None, "k", "l"]),
            "max_attempts": st.sampled_from([1, 1, 2]),
            "capabilities": st.sampled_from([(), (), ("cap",), ("cap", "more")]),
            "spec": st.sampled_from([{}, {}, {}, {"recorded_only": True}]),
        }
    ),
    min_size=2,
    max_size=12,
)
scenarios = st.tuples(
    new_tasks, st.tuples(*[st.booleans()] * WORKFLOWS), st.lists(st.lists(turns, min_size=1, max_size=8), max_size=6)
)


@dataclasses.dataclass(frozen=True)
class Ask:
    """A turn with what it says spelt out, so that it can be said again."""

    asks: Asks
    said: model.Report | None
    breaks: bool

    def run(self, tx: Tx) -> Any:
        result = self._run(tx)
        if self.breaks:
            raise errors.Invalid("broken", code="broken")
        return result

    def _run(self, tx: Tx) -> Any:
        agent_id, claim_id = self.asks.agent_id, self.asks.claim_id
        if self.said is None:
            return _shown(claiming.claim(tx, agent_id, str(claim_id)))
        assert self.asks.task is not None
        if claim_id is None:
            return reporting.report(tx, agent_id, self.asks.task[0], self.said).state
        task, claimed = claiming.report_and_claim(tx, agent_id, self.asks.task[0], self.said, claim_id)
        return task.state, _shown(claimed)


def _shown(claimed: claiming.Claimed | None) -> Any:
    if claimed is None:
        return None
    return claimed.task.id, claimed.task.attempt, claimed.task.claim_id, claimed.definition, claimed.input_values


class Run:
    """A scenario on one store."""

    def __init__(self, store: Store, scenario: Any) -> None:
        self.store = store
        self.tasks, self.sealed, self.groups = scenario
        self.given: dict[tuple[int, int], tuple[str, int, str]] = {}  # agent, claim: what it got

    async def prepare(self) -> None:
        workflows = [facts.workflow(id=_id("w", n), sealed=sealed) for n, sealed in enumerate(self.sealed)]
        agents = [
            facts.agent(id=_id("agent", 0)),
            facts.agent(id=_id("agent", 1), capabilities=["cap"]),
            facts.agent(id=_id("agent", 2), capabilities=["cap", "more"]),
            facts.agent(id=_id("agent", 3), draining=True),
            facts.agent(id=_id("agent", 4), state=AgentState.REVOKED),
        ]
        opened = [dataclasses.replace(workflow, sealed=False) for workflow in workflows]
        await insert(self.store, workflows=opened, agents=agents)
        names: dict[int, list[str]] = {n: [] for n in range(WORKFLOWS)}
        for n, fields in enumerate(self.tasks):
            known = names[fields["workflow"]]
            new = model.NewTask(
                id=_id("t", n),
                name=f"t{n}",
                definition={**facts.DEFINITION, "config": f"echo {n % 2}"},
                priority=-n,
                requires=[known[-back] for back in sorted(fields["requires"]) if back <= len(known)],
                **{name: value for name, value in fields.items() if name not in ("workflow", "requires")},
            )
            place = _id("w", fields["workflow"])
            await self.store.write(
                lambda tx, place=place, new=new: adding.add_tasks(tx, facts.PROJECT, place, [new])  # type: ignore[misc]
            )
            known.append(new.name)
        engine = sa.create_engine(self.store._engine.url)  # type: ignore[attr-defined]
        with engine.begin() as connection:
            for workflow in workflows:
                change = sa.update(tables.workflow).values(sealed=int(workflow.sealed))
                connection.execute(change.where(tables.workflow.c.id == workflow.id))
        engine.dispose()

    def ask(self, turn: Turn) -> Ask:
        agent_id = _id("agent", turn.agent)
        claim_id = None if turn.claim is None else _id("c", turn.agent, turn.claim)
        if turn.reports is None:
            return Ask(Asks(agent_id, None, claim_id), None, turn.breaks)
        unknown = (_id("t", turn.reports), 1, _id("c", turn.agent, turn.reports))
        task_id, attempt, lease = self.given.get((turn.agent, turn.reports), unknown)
        outputs: dict[str, model.Json] = {"y": "v"} if turn.outputs else {}
        one = said(facts.task(facts.workflow(), claim_id=lease, attempt=attempt), turn.status, outputs=outputs)
        one = dataclasses.replace(one, digest=turn.digest)
        return Ask(reporting.asks(agent_id, task_id, one, claim_id), one, turn.breaks)

    async def together(self) -> list[tuple[Ask, Any]]:
        """Group after group; what was asked in the order in which it came to be decided, with its result."""
        done = []
        for group in self.groups:
            asked = [self.ask(turn) for turn in group]
            order: dict[int, None] = {}

            def run(tx: Tx, n: int, asked: list[Ask] = asked, order: dict[int, None] = order) -> Any:
                order.pop(n, None)
                order[n] = None
                return asked[n].run(tx)

            calls = [self.store.turn(ask.asks, lambda tx, n=n: run(tx, n)) for n, ask in enumerate(asked)]  # type: ignore[misc]
            results = [_result(one) for one in await asyncio.gather(*calls, return_exceptions=True)]
            for turn, result in zip(group, results, strict=True):
                self._note(turn, result)
            done += [(asked[n], results[n]) for n in order]
        return done

    def _note(self, turn: Turn, result: Any) -> None:
        claimed = result[1] if turn.reports is not None and isinstance(result, tuple) else result
        if turn.claim is not None and isinstance(claimed, tuple) and len(claimed) == 5:
            self.given[turn.agent, turn.claim] = claimed[:3]

    async def one_by_one(self, asked: Sequence[Ask]) -> list[Any]:
        return [_result(*await asyncio.gather(self.store.write(ask.run), return_exceptions=True)) for ask in asked]


def _result(result: Any) -> Any:
    """Refusals by their code; whatever else went wrong is a fault of the test's subject."""
    if isinstance(result, errors.HeatWorkflowError):
        return type(result).__name__, result.code
    if isinstance(result, BaseException):
        raise result
    return result


def _dump(url: str) -> dict[str, list[Any]]:
    """Every row, of times only whether they are there."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        dump = {
            table.name: sorted(
                (
                    tuple((name, value is not None if name in _TIMES else value) for name, value in row.items())
                    for row in connection.execute(sa.select(table)).mappings()
                ),
                key=repr,
            )
            for table in SHOWN
        }
    engine.dispose()
    return dump


async def _with_store(database: Database, use: Callable[[Store, Ears], Any]) -> Any:
    await asyncio.to_thread(database.clear)
    async with database.replica() as (store, ears):
        if store.shared:  # those that run alone do so in the order in which they left the group
            store._waiting_threads = concurrent.futures.ThreadPoolExecutor(1)  # type: ignore[attr-defined]
        return await use(store, ears)


async def _compared(database: Database, scenario: Any) -> None:
    async def together(store: Store, ears: Ears) -> Any:
        run = Run(store, scenario)
        await run.prepare()
        ears.keys.clear()
        return await run.together()

    done = await _with_store(database, together)
    in_groups = await asyncio.to_thread(_dump, database.url)

    async def one_by_one(store: Store, ears: Ears) -> Any:
        run = Run(store, scenario)
        await run.prepare()
        return await run.one_by_one([ask for ask, _ in done])

    results = await _with_store(database, one_by_one)
    assert results == [result for _, result in done]
    assert await asyncio.to_thread(_dump, database.url) == in_groups


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_q4_q16_turns_in_groups_leave_what_they_leave_one_by_one(
    kind: str, database_of: Callable[[str], Database], runner: asyncio.Runner
) -> None:
    database = database_of(kind)

    @hypothesis.settings(max_examples=counts.Q16_EXAMPLES[kind], deadline=None, print_blob=True)
    @hypothesis.given(scenarios)
    def compare(scenario: Any) -> None:
        runner.run(_compared(database, scenario))

    compare()
