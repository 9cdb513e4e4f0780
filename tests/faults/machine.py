# SPDX-License-Identifier: Apache-2.0
"""Machine: everything operators, agents and fate may do to one project, in any order, against the real API."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from heat_workflow.model import LEASE
from tests.harness.callers import DEFINITION, new_id
from tests.harness.history import History
from tests.harness.invariants import check
from tests.harness.kept import unfinished
from tests.harness.nemesis import let_pass, settled
from tests.harness.recorded import RecordedAgent, RecordedOperator
from tests.harness.replicas import Replica

HURRY = "tests.faults.sabotage:in_a_hurry"
UNDO = {**DEFINITION, "config": "undo"}
SERVERS = ("s1", "s2")
_CHECK_EVERY = 10  # steps; it reads the whole history and the whole project
which = st.integers(0, 10**6)  # picks one of what there is, by the remainder
targets = st.sampled_from([{"server": "s1"}, {"server": "s2"}, {"capabilities": ["pool"]}, {}])
tasks = st.fixed_dictionaries(
    {
        "target": targets,
        "max_attempts": st.sampled_from([1, 1, 2]),
        "requires": st.sets(st.integers(0, 4), max_size=2),
        "undo": st.booleans(),
        "key": st.sampled_from([None, None, "lock"]),
        "late": st.booleans(),
        "deadline": st.sampled_from([None, None, 300]),
    }
)


@dataclasses.dataclass
class World:
    """The API process and its store, shared by all runs of the machine."""

    api: Replica
    url: str


@dataclasses.dataclass
class Lease:
    """A task in an agent's hands."""

    agent: RecordedAgent
    task: dict[str, Any]
    asked_to_cancel: bool = False


class Machine(RuleBasedStateMachine):
    """One project. Its own model is small: what exists, who holds what; the judgement is the checker's."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.project = new_id()
        self._directory = tempfile.TemporaryDirectory(prefix="heat-workflow-history-")
        self.history = History(Path(self._directory.name) / "history")
        self.operator = RecordedOperator(self.history, [self.world.api.url], self.project)
        self.agents = [self.operator.agent(server=server, capabilities=["pool"]) for server in SERVERS]
        self.workflows: list[str] = []
        self.leases: list[Lease] = []
        self.reports: list[tuple[RecordedAgent, dict[str, Any], dict[str, Any]]] = []
        self.names = 0
        self.steps = 0

    # -- operators

    @rule(wanted=st.lists(tasks, min_size=1, max_size=4), sealed=st.booleans(), undo=st.booleans())
    def create_workflow(self, wanted: list[dict[str, Any]], sealed: bool, undo: bool) -> None:
        names = [f"t{n}" for n in range(len(wanted))]
        bodies = [_task(name, one, names[:n]) for n, (name, one) in enumerate(zip(names, wanted, strict=True))]
        on_failure = "undo" if undo else "stop"
        self.workflows.append(self.operator.workflow(sealed=sealed, on_failure=on_failure, tasks=bodies))

    @precondition(lambda self: self.workflows)
    @rule(pick=which, wanted=tasks, update=st.booleans())
    def add_task(self, pick: int, wanted: dict[str, Any], update: bool) -> None:
        """A task more; ``update``: under a name that may be in use."""
        workflow_id, known = self._some(pick)
        holding = [task["name"] for task in known if task["undo_of"] is None]
        self.names += 1
        name = "t0" if update else f"more{self.names}"
        body = self.operator.body(**_task(name, wanted, [other for other in holding if other != name][-5:]))
        path = f"/v1/workflows/{workflow_id}/tasks/{body['id']}"
        answer = self._expect("PUT", path, {201, 409, 422}, body)
        assert answer.status_code == 409 or self._expect("PUT", path, {200, 201, 409, 422}, body)

    @precondition(lambda self: self.workflows)
    @rule(pick=which, size=st.integers(1, 5), batch=st.integers(0, 2), errors=st.integers(0, 2))
    def add_fanout(self, pick: int, size: int, batch: int, errors: int) -> None:
        self.names += 1
        servers = {f"n{n}": SERVERS[n % 2] for n in range(size)}
        rolling = {"batch": {"max_size": batch, "max_errors": errors}} if batch else {}
        body = self.operator.body(f"fan{self.names}", servers=servers, **rolling)
        self._expect("PUT", f"/v1/workflows/{self._id(pick)}/tasks/{body['id']}", {201, 409}, body)

    @precondition(lambda self: self.workflows)
    @rule(pick=which, word=st.sampled_from(["pause", "resume", "cancel", "rerun", "undo", "resume"]))
    def control_workflow(self, pick: int, word: str) -> None:
        self._expect("POST", f"/v1/workflows/{self._id(pick)}/{word}", {202, 409})

    @precondition(lambda self: self.workflows)
    @rule(pick=which, other=which, word=st.sampled_from(["cancel", "rerun", "undo", "delete", "patch"]))
    def control_task(self, pick: int, other: int, word: str) -> None:
        workflow_id, known = self._some(pick)
        if not known:
            return
        path = f"/v1/workflows/{workflow_id}/tasks/{known[other % len(known)]['id']}"
        if word == "delete":
            self._expect("DELETE", path, {204})
        elif word == "patch":
            self._expect("PATCH", path, {200, 409}, {"priority": other % 7})
        else:
            self._expect("POST", f"{path}/{word}", {202, 409})

    # -- agents

    @rule(pick=which, twice=st.booleans())
    def claim(self, pick: int, twice: bool) -> None:
        agent, claim_id = self._agent(pick), new_id()
        answer = agent.claim(claim_id=claim_id)
        assert answer.status_code in (200, 204), answer.text
        if answer.status_code == 204:
            return
        if twice:
            again = agent.claim(claim_id=claim_id).json()["task"]
            assert again == {**answer.json()["task"], "deadline_in": again["deadline_in"]}
        self._take(agent, answer.json()["task"])

    @rule(pick=which)
    def claim_unheard(self, pick: int) -> None:
        """The agent dies before it reads what it was given; its next life says what it knows."""
        agent = self._agent(pick)
        agent.claim()
        self._restart(agent)

    @precondition(lambda self: self.leases)
    @rule(pick=which)
    def heartbeat(self, pick: int) -> None:
        lease = self.leases[pick % len(self.leases)]
        answer = lease.agent.heartbeat(lease.task)
        assert answer.status_code in (200, 409), answer.text
        if answer.status_code == 409:
            self.leases.remove(lease)
        elif answer.json()["cancel"]:
            lease.asked_to_cancel = True

    @precondition(lambda self: self.leases)
    @rule(pick=which, good=st.booleans(), claims=st.booleans())
    def report(self, pick: int, good: bool, claims: bool) -> None:
        lease = self.leases.pop(pick % len(self.leases))
        status = "cancelled" if lease.asked_to_cancel else "succeeded" if good else "failed"
        fields: dict[str, Any] = {"outputs": {"y": new_id()}}
        following = {"claim": {"claim_id": new_id()}} if claims else {}
        answer = lease.agent.report(lease.task, status, **fields, **following)
        assert answer.status_code in (200, 409), answer.text
        settled(self.world.url, lease.task["workflow_id"])  # a further attempt is ready by the passing of time
        if answer.status_code == 200:
            self.reports.append((lease.agent, lease.task, {"status": status, **fields}))
            if answer.json()["task"] is not None:
                self._take(lease.agent, answer.json()["task"])

    @precondition(lambda self: self.reports)
    @rule(pick=which)
    def report_again(self, pick: int) -> None:
        agent, task, said = self.reports[pick % len(self.reports)]
        assert agent.report(task, **said).status_code == 200
        assert agent.report(task, **{**said, "outputs": {"y": "other"}}).status_code == 409
        assert agent.heartbeat(task).status_code == 409

    # -- fate

    @rule()
    def kill_the_api(self) -> None:
        self.world.api.kill()
        self.world.api.start(before=HURRY)

    @precondition(lambda self: self.workflows)
    @rule(pick=which, seconds=st.sampled_from([LEASE + 1, 100.0, 400.0]))
    def time_passes(self, pick: int, seconds: float) -> None:
        workflow_id = self._id(pick)
        let_pass(self.world.url, seconds, workflow_id)
        settled(self.world.url, workflow_id)

    # -- judgement

    @invariant()
    def agrees(self) -> None:
        self.steps += 1
        if self.steps % _CHECK_EVERY == 0:
            check(self.history, self.world.url, self.project, over=False)

    def teardown(self) -> None:
        """Let everything come to its end, then judge all of it."""
        try:
            for workflow_id in self.workflows:
                self.operator.call("POST", f"/v1/workflows/{workflow_id}/resume")
            for agent in self.agents:
                self._restart(agent)
            for _ in range(300):
                if not unfinished(self.world.url, self.project):
                    break
                self._work_on()
            check(self.history, self.world.url, self.project)
        finally:
            self.history.close()
            self._directory.cleanup()

    def _work_on(self) -> None:
        for agent in self.agents:
            answer = agent.claim()
            if answer.status_code == 200:
                self._take(agent, answer.json()["task"])
        for lease in list(self.leases):
            told = lease.agent.heartbeat(lease.task)
            cancelled = told.status_code == 200 and told.json()["cancel"]
            lease.agent.report(lease.task, "cancelled" if cancelled else "succeeded")
        self.leases.clear()

    # -- helpers

    def _expect(self, method: str, path: str, statuses: set[int], body: Any = None) -> Any:
        answer = self.operator.call(method, path, json=body)
        assert answer.status_code in statuses, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def _id(self, pick: int) -> str:
        return self.workflows[pick % len(self.workflows)]

    def _some(self, pick: int) -> tuple[str, list[dict[str, Any]]]:
        """A workflow and its tasks."""
        workflow_id = self._id(pick)
        return workflow_id, self.operator.call("GET", f"/v1/workflows/{workflow_id}/tasks").json()["tasks"]

    def _agent(self, pick: int) -> RecordedAgent:
        return self.agents[pick % len(self.agents)]

    def _take(self, agent: RecordedAgent, task: dict[str, Any]) -> None:
        agent.start(task)
        self.leases.append(Lease(agent, task))

    def _restart(self, agent: RecordedAgent) -> None:
        known = [lease.task for lease in self.leases if lease.agent is agent]
        lines = [{"task_id": t["id"], "attempt": t["attempt"], "claim_id": t["claim_id"]} for t in known]
        before, agent.nonce = agent.nonce, new_id()
        journal = [{**line, "stage": "started"} for line in lines]
        assert agent.hello(previous_nonce=before, journal=journal).status_code == 200


def _task(name: str, wanted: dict[str, Any], earlier: list[str]) -> dict[str, Any]:
    """A task as wanted, requiring some of the earlier ones."""
    requires = sorted({earlier[n % len(earlier)] for n in wanted["requires"]}) if earlier else []
    late = {"late": {"get_output": [requires[0], "y"]}} if requires and wanted["late"] else {}
    return {
        "name": name,
        **wanted["target"],
        "max_attempts": wanted["max_attempts"],
        "requires": requires,
        "input_values": late,
        "undo": UNDO if wanted["undo"] else None,
        "concurrency_key": wanted["key"],
        "deadline": wanted["deadline"],
    }
