# SPDX-License-Identifier: Apache-2.0
"""Harness: callers whose every request stands in a history, and who repeat it elsewhere until it is answered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import requests

from tests.harness.callers import DEFINITION, Operator, SimulatedAgent, new_id
from tests.harness.history import History

PATIENCE = 90.0  # seconds a caller repeats a request for
_ANSWER_WITHIN = 20.0  # seconds, and what the request itself asks to be held for


class Recorder:
    """Sends requests, writes them down, and on no answer repeats them at the next replica with the same ids."""

    def __init__(self, history: History, who: str, urls: Sequence[str], on_silence: Callable[[], None]) -> None:
        self.history = history
        self.who = who
        self._urls = list(urls)
        self._turn = hash(who) % len(urls)
        self._on_silence = on_silence

    def send(self, session: requests.Session, method: str, path: str, **kwargs: Any) -> requests.Response:
        """The first answer that settles the request: anything but 503 and 429."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.005
        while True:
            answer = self._once(session, method, path, **kwargs)
            if answer is not None and answer.status_code not in (429, 503):
                assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text}"
                return answer
            assert time.monotonic() < deadline, f"{method} {path}: no answer in {PATIENCE} s"
            self._on_silence()
            self._turn += 1
            time.sleep(pause)
            pause = min(pause * 2, 0.1)

    def _once(self, session: requests.Session, method: str, path: str, **kwargs: Any) -> requests.Response | None:
        number = self.history.invoke(self.who, method, path, kwargs.get("json"))
        url = self._urls[self._turn % len(self._urls)]
        kwargs.setdefault("timeout", _ANSWER_WITHIN + float((kwargs.get("json") or {}).get("wait", 0)))
        try:
            answer = session.request(method, url + path, **kwargs)
        except requests.RequestException as exc:
            self.history.unanswered(number, exc)
            return None
        self.history.answered(number, answer)
        return answer


def patient() -> None:
    """What most callers do about silence: nothing but try again."""


class RecordedOperator(Operator):
    """An operator who names everything before it exists, so that each request may be repeated."""

    def __init__(
        self, history: History, urls: Sequence[str], project: str, on_silence: Callable[[], None] = patient
    ) -> None:
        super().__init__(urls[0], project=project)
        self.project = project
        self.urls = urls
        self.on_silence = on_silence
        self.history = history
        self._recorder = Recorder(history, "operator", urls, on_silence)

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        return self._recorder.send(self.session, method, path, **kwargs)

    def workflow(self, **fields: Any) -> str:
        workflow_id = new_id()
        tasks = [self.body(**task) for task in fields.pop("tasks", ())]
        answer = self.call("PUT", f"/v1/workflows/{workflow_id}", json={"name": "w", "tasks": tasks, **fields})
        assert answer.status_code in (200, 201), answer.text
        return workflow_id

    def body(self, name: str = "t", **fields: Any) -> dict[str, Any]:
        """A task under an id of its own, with an input that names it."""
        task_id = fields.pop("id", None) or new_id()
        inputs = {"canary": f"canary-{task_id}", **fields.pop("input_values", {})}
        return {"id": task_id, "name": name, "definition": DEFINITION, "input_values": inputs, **fields}

    def task(self, workflow_id: str, name: str = "t", **fields: Any) -> dict[str, Any]:
        body = self.body(name, **fields)
        answer = self.call("PUT", f"/v1/workflows/{workflow_id}/tasks/{body['id']}", json=body)
        assert answer.status_code in (200, 201), answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def agent(self, **fields: Any) -> RecordedAgent:
        agent_id = new_id()
        answer = self.call("PUT", f"/v1/agents/{agent_id}", json={"name": "agent", **fields})
        assert answer.status_code in (200, 201), answer.text
        agent = RecordedAgent(self, agent_id, str(answer.json()["join_token"]))
        assert agent.enroll().status_code in (200, 201)
        assert agent.hello().status_code == 200
        return agent


class RecordedAgent(SimulatedAgent):
    """A simulated agent that keeps to the rules: one start per attempt, each claim repeated until it is settled."""

    def __init__(self, operator: RecordedOperator, agent_id: str, join_token: str) -> None:
        super().__init__(operator.url, agent_id, join_token)
        self.history = operator.history
        self._recorder = Recorder(operator.history, agent_id, operator.urls, operator.on_silence)
        self._started: set[tuple[str, int]] = set()

    def call(self, method: str, path: str, token: str | None = None, **kwargs: Any) -> requests.Response:
        self.session.headers["Authorization"] = f"Bearer {token or self.bearer}"
        return self._recorder.send(self.session, method, f"/agent/v1{path}", **kwargs)

    def start(self, task: dict[str, Any]) -> None:
        """Execute the hook, unless this attempt was executed before."""
        if (task["id"], task["attempt"]) not in self._started:
            self._started.add((task["id"], task["attempt"]))
            self.history.start(self.agent_id, task)

    def report(self, task: dict[str, Any], status: str = "succeeded", **fields: Any) -> requests.Response:
        """A report with an output that no other report has, unless one is given."""
        fields.setdefault("outputs", {"y": f"{task['id']}/{task['attempt']}/{uuid.uuid4()}"})
        return super().report(task, status, **fields)
