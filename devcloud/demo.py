# SPDX-License-Identifier: Apache-2.0
"""Demo: create the stack of one template in a devcloud, and show a human what happens while it does."""

import dataclasses
import datetime
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heatclient import exc
from keystoneauth1.session import Session

from devcloud.cloud import DevCloud
from devcloud.registry import GUEST_TASKS
from devcloud.stacks import Stack, Stacks
from heat_workflow.errors import printable

POLL_S = 0.2
FINISHED_BADLY = ("failed", "timed_out", "cancelled")


@dataclasses.dataclass(frozen=True)
class Fact:
    """One line for the human; the key tells it from the others."""

    key: object
    moment: datetime.datetime
    text: str


def run_demo(cloud: DevCloud, template: Path, environment: Path | None) -> int:
    """Create the stack in the cloud and print its progress and outcome; the exit status, 0 if it is complete."""
    began = _now()
    try:
        stack = Stacks(cloud.session()).create("demo", template, environment, wait=False)
    except (exc.BaseException, OSError) as error:
        print(f"Heat did not take the template: {error}")
        return 1
    progress = Progress(cloud.session(), stack, began)
    while stack.status == "CREATE_IN_PROGRESS":
        progress.print_news()
        time.sleep(POLL_S)
    progress.print_news()
    print(f"\nstack {stack.name} is {stack.status}")
    if stack.status == "CREATE_COMPLETE":
        _print_outputs(stack)
        return 0
    print(stack.failures())
    for line in progress.failed_tasks():
        print(line)
    return 1


class Progress:
    """What has happened since the stack was begun; each fact is printed once."""

    def __init__(self, session: Session, stack: Stack, began: datetime.datetime) -> None:
        self._session = session
        self._stack = stack
        self._began = began
        self._printed: set[object] = set()

    def print_news(self) -> None:
        """Print the facts that were not printed before, in the order of their times."""
        news = [fact for fact in (*self._stack_facts(), *self._task_facts()) if fact.key not in self._printed]
        for fact in sorted(news, key=lambda fact: fact.moment):
            self._printed.add(fact.key)
            print(f"{(fact.moment - self._began).total_seconds():6.1f} s  {fact.text}", flush=True)

    def failed_tasks(self) -> Iterator[str]:
        """For each task that did not succeed: server and reason."""
        servers = self._server_names()
        for task in self._tasks():
            if task["state"] in FINISHED_BADLY:
                yield f"task {task['name']} {task['state']} on {_server(task, servers)}: {task.get('status_reason')}"

    def _stack_facts(self) -> Iterator[Fact]:
        # Heat gives its events whole seconds only, so the time is when we heard of it.
        for event in self._stack.events():
            yield Fact(event.id, _now(), f"heat  {event.resource_name} {event.resource_status}")

    def _task_facts(self) -> Iterator[Fact]:
        servers = self._server_names()
        for task in self._tasks():
            ready, started, finished = (_moment(task.get(f"{step}_at")) for step in ("ready", "started", "finished"))
            if ready:
                yield self._task_fact(task, ready, "ready")
            if started:
                yield self._task_fact(task, started, f"started on {_server(task, servers)}")
            if finished:
                seconds = (finished - (started or finished)).total_seconds()
                yield self._task_fact(task, finished, f"{task['state']} after {seconds:.2f} s")

    def _task_fact(self, task: Mapping[str, Any], moment: datetime.datetime, what: str) -> Fact:
        return Fact((task["id"], moment), moment, f"task  {task['name']} {what}")

    def _tasks(self) -> Iterator[Mapping[str, Any]]:
        for workflow in self._get("/v1/workflows")["workflows"]:
            for task in self._get(f"/v1/workflows/{workflow['id']}/tasks")["tasks"]:
                if (_moment(task["created_at"]) or self._began) >= self._began:
                    yield task

    def _server_names(self) -> Mapping[str, str]:
        agents = self._get("/v1/agents")["agents"]
        return {agent["server"]: agent["name"] for agent in agents if agent.get("server")}

    def _get(self, path: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._session.get(path, endpoint_filter=GUEST_TASKS).json()
        return answer


def _server(task: Mapping[str, Any], names: Mapping[str, str]) -> str:
    server = task.get("server")
    return names.get(server, server) if server else "any server"


def _moment(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _print_outputs(stack: Stack) -> None:
    for name, value in stack.outputs.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"  {name}: " + "\n".join(map(printable, text.split("\n"))))
