# SPDX-License-Identifier: Apache-2.0
"""Harness: operators and simulated agents at work all at once, against replicas that may die under them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import requests

from tests.harness.callers import DEFINITION, new_id
from tests.harness.history import History
from tests.harness.recorded import RecordedAgent, RecordedOperator

_OPEN_MOST = 6  # workflows of one operator that are unfinished at a time, so that the end comes soon


class Load:
    """Work that is added and done by threads until ``finish``; every call stands in the history."""

    def __init__(self, history: History, urls: Sequence[str], project: str, seed: int) -> None:
        self.history = history
        self.urls = urls
        self.project = project
        self._seed = seed
        self._adding = threading.Event()
        self._working = threading.Event()
        self._adders: list[threading.Thread] = []
        self._workers: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        self.workflows: list[str] = []

    def operator(self) -> RecordedOperator:
        return RecordedOperator(self.history, self.urls, self.project)

    def begin(self, agents: int, operators: int) -> None:
        owner = self.operator()
        servers = [new_id() for _ in range(agents)]
        for n, server in enumerate(servers):
            worker = owner.agent(server=server, capabilities=["pool"])
            self._run(self._workers, self._work, worker, random.Random(f"{self._seed}/agent/{n}"))
        for n in range(operators):
            self._run(self._adders, self._add, self.operator(), servers, random.Random(f"{self._seed}/operator/{n}"))

    def _run(self, threads: list[threading.Thread], work: Callable[..., object], *args: Any) -> None:
        def guarded() -> None:
            try:
                work(*args)
            except BaseException as exc:  # shown by ``finish``
                self.errors.append(exc)

        thread = threading.Thread(target=guarded, daemon=True)
        threads.append(thread)
        thread.start()

    def finish(self, unfinished: Callable[[], int], within: float = 60) -> None:
        """Add no more, wait until everything is done, end the threads; raise what went wrong in one of them."""
        self._adding.set()
        for thread in self._adders:
            thread.join(120)
        deadline = time.monotonic() + within
        while unfinished() and not self.errors and time.monotonic() < deadline:
            time.sleep(0.1)
        self._working.set()
        for thread in self._workers:
            thread.join(120)
        if self.errors:
            raise self.errors[0]

    # -- operators

    def _add(self, operator: RecordedOperator, servers: list[str], chance: random.Random) -> None:
        mine: list[str] = []
        while not self._adding.is_set():
            workflow_id = operator.workflow(**_graph(servers, chance))
            mine.append(workflow_id)
            self.workflows.append(workflow_id)
            if chance.random() < 0.3:
                self._meddle(operator, workflow_id, chance)
            while len(mine) >= _OPEN_MOST and not self._adding.wait(0.05):
                mine = [one for one in mine if not _over(operator, one)]

    def _meddle(self, operator: RecordedOperator, workflow_id: str, chance: random.Random) -> None:
        """What operators do to a workflow that runs; refused where its state does not allow it."""
        place = f"/v1/workflows/{workflow_id}"
        word = chance.choice(["cancel", "pause", "rerun", "task", "undo"])
        if word == "task":
            tasks = operator.call("GET", f"{place}/tasks").json()["tasks"]
            operator.call("POST", f"{place}/tasks/{chance.choice(tasks)['id']}/cancel")
            return
        operator.call("POST", f"{place}/{word}")
        if word == "pause":
            operator.call("POST", f"{place}/resume")

    # -- agents

    def _work(self, agent: RecordedAgent, chance: random.Random) -> None:
        twin = requests.Session()
        task: dict[str, Any] | None = None
        while task is not None or not self._working.is_set():
            if task is None:
                answer = agent.claim(wait=1, claim_id=new_id())
                task = answer.json()["task"] if answer.status_code == 200 else None
                continue
            agent.start(task)
            status = "succeeded" if chance.random() < 0.9 else "failed"
            if chance.random() < 0.4:
                told = agent.heartbeat(task)
                if told.status_code == 200 and told.json()["cancel"]:
                    status = "cancelled"
            if chance.random() < 0.2:
                self._say_two_things(agent, twin, task, status)
                task = None
                continue
            claims = {} if self._working.is_set() else {"claim": {"claim_id": new_id(), "wait": 0}}
            answer = agent.report(task, status, **claims)
            task = answer.json()["task"] if answer.status_code == 200 else None

    def _say_two_things(
        self, agent: RecordedAgent, session: requests.Session, task: dict[str, Any], status: str
    ) -> None:
        """Two reports of one attempt that differ, at the same moment at two replicas: one of them is the outcome."""
        other = RecordedAgent(self.operator(), agent.agent_id, "")
        other.secret, other.session = agent.secret, session
        rivals: list[threading.Thread] = []
        self._run(rivals, other.report, task, status)
        agent.report(task, status)
        rivals[0].join(120)


def _over(operator: RecordedOperator, workflow_id: str) -> bool:
    counts = operator.call("GET", f"/v1/workflows/{workflow_id}").json()["counts"]
    return not set(counts) & {"waiting", "ready", "leased", "stalled", "cancelling"}


def _graph(servers: list[str], chance: random.Random) -> dict[str, Any]:
    """A workflow of some ten tasks: a chain with a value, a diamond over the pool, or a fan-out that rolls."""
    anywhere = {"capabilities": ["pool"]}
    retried = {"max_attempts": chance.choice([1, 3]), **anywhere}
    undo = {"undo": {**DEFINITION, "config": "undo"}}
    shape = chance.randrange(3)
    tasks: list[dict[str, Any]]
    if shape == 0:
        tasks = [{"name": "t0", "server": chance.choice(servers), **undo}]
        for n in range(1, 8):
            inputs = {"x": {"get_output": [f"t{n - 1}", "y"]}}
            tasks.append({"name": f"t{n}", "server": chance.choice(servers), "input_values": inputs})
    elif shape == 1:
        middle = [{"name": f"m{n}", "requires": ["top"], **retried} for n in range(6)]
        names = [str(task["name"]) for task in middle]
        tasks = [{"name": "top", **anywhere, **undo}, *middle, {"name": "end", "requires": names, **anywhere}]
    else:
        fan = {name: chance.choice(servers) for name in "abcdef"}
        rolling = {"batch": {"max_size": 2, "max_errors": 6}} if chance.random() < 0.7 else {}
        tasks = [{"name": "fan", "servers": fan, **rolling}, {"name": "last", "requires": ["fan"], **anywhere}]
    return {"sealed": chance.random() < 0.6, "on_failure": chance.choice(["stop", "undo"]), "tasks": tasks}
