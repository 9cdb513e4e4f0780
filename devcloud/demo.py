# SPDX-License-Identifier: Apache-2.0
"""Demo: create the stack of one template in a devcloud, and show a human what happens while it does."""

import dataclasses
import datetime
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heatclient import exc
from keystoneauth1.session import Session

from devcloud.cloud import DevCloud
from devcloud.registry import GUEST_TASKS
from devcloud.stacks import Stack, Stacks
from heat_workflow.errors import printable

POLL_S = 0.2
_WHOLE = datetime.timedelta(seconds=1)  # how exact Heat's times are
_AFTER = datetime.timedelta(microseconds=1)
FINISHED_BADLY = ("failed", "timed_out", "cancelled")


@dataclasses.dataclass(frozen=True)
class Fact:
    """One line for the human about a Heat resource; the key tells it from the others."""

    key: object
    moment: datetime.datetime
    text: str
    resource: str


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
    progress.print_news(last=True)
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
        self._told_until = began
        self._heat_moments: dict[object, datetime.datetime] = {}

    def print_news(self, *, last: bool = False) -> None:
        """Print the facts that were not printed before, in the order in which they came about.

        What came about after Heat was asked waits for the next time, unless this is the ``last``: Heat may have done
        something before it that it has not told yet.
        """
        events, asked = self._stack.events(), _now()
        tasks = list(self._task_facts())
        facts = sorted([*self._stack_facts(events, tasks), *tasks], key=lambda fact: fact.moment)
        for fact in facts:
            if fact.key not in self._printed and (last or fact.moment <= asked):
                self._printed.add(fact.key)
                print(f"{(fact.moment - self._began).total_seconds():6.1f} s  {fact.text}", flush=True)
        self._told_until = asked

    def failed_tasks(self) -> Iterator[str]:
        """For each task that did not succeed: server and reason."""
        servers = self._server_names()
        for task in self._tasks():
            if task["state"] in FINISHED_BADLY:
                yield f"task {task['name']} {task['state']} on {_server(task, servers)}: {task.get('status_reason')}"

    def _stack_facts(self, events: Iterable[Any], tasks: Sequence[Fact]) -> Iterator[Fact]:
        """Heat's events, each at the earliest moment that it can have been.

        Heat gives whole seconds only. An event is not before the ones before it, nor before Heat was asked the last
        time, when it was not there yet; and a resource is not complete before its tasks are finished. So none is later
        than it was, and none stands before its cause.
        """
        earliest = self._began
        for event in events:
            if event.id not in self._heat_moments:
                second = _moment(event.event_time) or self._began
                known = [earliest, self._told_until, second]
                if not event.resource_status.endswith("IN_PROGRESS"):
                    own = [task.moment for task in tasks if task.resource == event.resource_name]
                    known += [moment + _AFTER for moment in own if moment < second + _WHOLE]
                self._heat_moments[event.id] = max(known)
            earliest = self._heat_moments[event.id]
            yield Fact(event.id, earliest, f"heat  {event.resource_name} {event.resource_status}", event.resource_name)

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
        resource = str((task.get("heat") or {}).get("resource") or task["name"]).rpartition("/")[2]
        return Fact((task["id"], what.split()[0], moment), moment, f"task  {task['name']} {what}", resource)

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
