# SPDX-License-Identifier: Apache-2.0
"""F49 without the wire: thousands of random moves a second on the use cases themselves, by a clock that is given.

What the state machine says through HTTP, this says to transactions on a file: less is real, far more is tried.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from heat_workflow import errors, model
from heat_workflow.model import AgentId, NewTask, Report, Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.store.claims import Sqlite
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.prepared import Prepared
from heat_workflow.store.sqlite import engine_for
from heat_workflow.store.transaction import SqlTx
from heat_workflow.taskqueue import adding, cancelling, claiming, expiring, repeating, reporting, sessions, workflows
from tests.faults import counts
from tests.harness import facts
from tests.harness.invariants import agree
from tests.harness.kept import Kept

T = TypeVar("T")
UNGROUPED = {**facts.DEFINITION, "group": "Heat::Ungrouped"}
MOVES = ("add", "add", "fan", "time", "control", "control", "word", "claim", "claim", "report", "report", "restart")


class Walk:
    """One project on one connection, moved at random."""

    def __init__(self, connection: sa.Connection, run: Prepared, seed: int) -> None:
        self._connection = connection
        self._run = run
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.project = facts.new_id()
        self.names = 0
        agents = [facts.agent(project_id=self.project, capabilities=["server=s"], nonce="n") for _ in range(2)]
        self.agents: list[AgentId] = [agent.id for agent in agents]
        self.workflow = facts.workflow(project_id=self.project, on_failure=self.chance.choice(["stop", "undo"]))
        for agent in agents:
            self.do(lambda tx, agent=agent: tx.insert_agent(agent))  # type: ignore[misc]
        self.do(lambda tx: tx.insert_workflow(self.workflow))

    def do(self, use_case: Callable[[Tx], T]) -> T:
        """As the store does it: all of it or nothing."""
        tx = SqlTx(self._connection, self._run, Sqlite(), KeyRing(), self.now)
        with self._connection.begin():
            done = use_case(tx)
            tx.flush_events()
            return done

    def step(self) -> None:
        """One move; refused ones are part of the walk, lost races are not: there is nobody to race with."""
        try:
            getattr(self, self.chance.choice(MOVES))()
        except errors.Conflict as exc:
            if exc.code == "raced":
                raise

    def tasks(self) -> list[Task]:
        return self.do(lambda tx: tx.list_tasks(self.workflow.id))

    def seal(self) -> None:
        """From here on the workflow ends with its last task, if there is one to come."""
        if any(not task.finished for task in self.tasks()):
            with self._connection.begin():
                self._connection.exec_driver_sql("UPDATE workflow SET sealed = 1 WHERE id = ?", (self.workflow.id,))

    # -- moves

    def add(self) -> None:
        self.names += 1
        name = "t0" if self.chance.random() < 0.4 else f"t{self.names}"
        known = [t.name for t in self.tasks() if t.undo_of is None and t.holds_name and t.name != name][-5:]
        required = {self.chance.choice(known) for _ in range(self.chance.randrange(3))} if known else set()
        undo = self.chance.choice([None, facts.DEFINITION, facts.DEFINITION, UNGROUPED])
        request = NewTask(
            name=name,
            definition=self.chance.choice([facts.DEFINITION] * 5 + [UNGROUPED]),
            spec={"max_attempts": 2, "undo": undo, "input_values": {}},
            requires=sorted(required),
            max_attempts=2,
            deadline=self.chance.choice([None, 300]),
            concurrency_key=self.chance.choice([None, "key"]),
        )
        self.do(lambda tx: adding.add_tasks(tx, self.project, self.workflow.id, [request]))

    def fan(self) -> None:
        self.names += 1
        batch = {"max_size": self.chance.choice([1, 2]), "max_errors": self.chance.randrange(3), "pause": 0}
        spec: dict[str, Any] = {"max_attempts": 1, "undo": None, "input_values": {}}
        if self.chance.random() < 0.7:
            spec["batch"] = batch
        servers = {f"n{n}": "s" for n in range(self.chance.randrange(1, 5))}
        request = NewTask(name=f"fan{self.names}", definition=facts.DEFINITION, spec=spec, servers=servers)
        self.do(lambda tx: adding.add_tasks(tx, self.project, self.workflow.id, [request]))

    def time(self) -> None:
        self.now += self.chance.choice([model.LEASE + 1, 400])
        while self.do(expiring.expire):
            pass

    def control(self) -> None:
        known = self.tasks()
        if known:
            task_id = self.chance.choice(known).id
            words = (cancelling.cancel_task, cancelling.detach_task, repeating.rerun_task, repeating.undo_task)
            word: Callable[..., object] = self.chance.choice(words)
            self.do(lambda tx: word(tx, self.project, self.workflow.id, task_id))

    def word(self) -> None:
        words = [workflows.pause_workflow, workflows.resume_workflow, workflows.resume_workflow]
        words += [workflows.cancel_workflow, repeating.rerun_workflow, repeating.undo_workflow]
        word = self.chance.choice(words)
        self.do(lambda tx: word(tx, self.project, self.workflow.id))

    def claim(self) -> claiming.Claimed | None:
        agent_id = self.chance.choice(self.agents)
        return self.do(lambda tx: claiming.claim(tx, agent_id, facts.new_id()))

    def report(self) -> None:
        held = [task for task in self.tasks() if task.state in model.HELD]
        if held:
            task = self.chance.choice(held)
            word = self.chance.choice([TaskState.SUCCEEDED, TaskState.SUCCEEDED, TaskState.FAILED])
            self.say(task, TaskState.CANCELLED if task.state is TaskState.CANCELLING else word)

    def say(self, task: Task, state: TaskState) -> None:
        assert task.agent_id is not None
        assert task.claim_id is not None
        agent_id = task.agent_id
        said = Report(task.attempt, task.claim_id, state, 0, "", "", {}, None, digest=state.value)
        self.do(lambda tx: reporting.report(tx, agent_id, task.id, said))

    def restart(self) -> None:
        """An agent comes back and knows of nothing."""
        agent_id = self.chance.choice(self.agents)
        self.do(lambda tx: sessions.hello(tx, agent_id, "n", "n", None, {}, [], False))

    # -- the end

    def drain(self) -> None:
        with contextlib.suppress(errors.Conflict):
            self.do(lambda tx: workflows.resume_workflow(tx, self.project, self.workflow.id))
        for _ in range(1000):
            for task in self.tasks():
                if task.state in model.HELD:
                    self.say(task, TaskState.SUCCEEDED)
            if self.claim() is None:
                if not self.do(lambda tx: tx.has_unfinished(self.workflow.id)):
                    return
                self.time()


@pytest.fixture
def connection(store_of: Callable[[str], str]) -> Iterator[sa.Connection]:
    engine = engine_for(store_of("sqlite"))
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA synchronous=OFF")  # nothing is killed here
        yield connection.execution_options(writes=True)
    engine.dispose()


def test_f49_i1_to_i8_hold_on_random_walks_over_the_use_cases(connection: sa.Connection) -> None:
    run = Prepared(connection.dialect)
    url = connection.engine.url.render_as_string(hide_password=False)
    for seed in range(counts.F49_WALKS):
        walk = Walk(connection, run, seed)
        for n in range(counts.F49_STEPS):
            walk.step()
            if n == counts.F49_STEPS // 3 and seed % 2:
                walk.seal()
        walk.drain()
        found = list(agree(Kept(url, walk.project)))
        assert not found, f"walk {seed}:\n" + "\n".join(found)
