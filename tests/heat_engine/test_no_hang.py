# SPDX-License-Identifier: Apache-2.0
"""F42, G23: deleting, rolling back and timing out end in bounded time, whatever became of agent and task."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.stacks import Stack, Stacks
from heat_workflow import errors
from heat_workflow.client import Client, stack_workflow_id
from tests.harness.hot import Hot

MOST = 75.0  # seconds from the request to its end: a cancel that nobody confirms takes 35, a deadline 30 and a minute
TOLD_GUEST = 10.0  # seconds in which the guest's process has ended where Heat tells us


@dataclasses.dataclass(frozen=True)
class Case:
    """One way for a stack to be in the middle of something when it is told to stop."""

    agent: str  # alive, dead, never
    task: str  # running, ready, none (it has succeeded; a DELETE task follows where the stack is deleted)
    verb: str  # delete, rollback, timeout
    ends: str  # the status that the stack ends in
    says: str = ""  # words of an event or of the stack's reason

    @property
    def name(self) -> str:
        return f"{self.agent}-{self.task}-{self.verb}"


UNCONFIRMED = "the guest may still be running it"
SKIPPED = "of action DELETE was skipped: no agent picked it up within 60 s ([heat_workflow] delete_wait of heat-engine"
DEADLINE = "deadline"  # the agent and the API each say it in their way; who is first is chance
CASES = [
    Case("alive", "running", "delete", "DELETE_COMPLETE"),
    Case("alive", "running", "rollback", "ROLLBACK_COMPLETE"),
    Case("alive", "running", "timeout", "UPDATE_FAILED", DEADLINE),
    Case("alive", "ready", "delete", "DELETE_COMPLETE"),
    Case("alive", "none", "delete", "DELETE_COMPLETE"),
    Case("dead", "running", "delete", "DELETE_COMPLETE", UNCONFIRMED),
    Case("dead", "running", "rollback", "ROLLBACK_COMPLETE", UNCONFIRMED),
    Case("dead", "ready", "delete", "DELETE_COMPLETE"),
    Case("dead", "ready", "timeout", "UPDATE_FAILED", DEADLINE),
    Case("dead", "none", "delete", "DELETE_COMPLETE", SKIPPED),
    Case("never", "ready", "delete", "DELETE_COMPLETE"),
    Case("never", "ready", "rollback", "ROLLBACK_COMPLETE"),
    Case("never", "ready", "timeout", "UPDATE_FAILED", "no agent of this project has it"),
]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    status: str
    took: float
    said: str
    process_ended_after: float | None


class Stage:
    """Brings a stack into the middle of something, tells it to stop, and watches."""

    def __init__(self, case: Case, hot: Any, stacks: Stacks, cloud: DevCloud, api: Client, room: pathlib.Path) -> None:
        self.case, self.hot, self.stacks, self.cloud, self.api = case, hot, stacks, cloud, api
        self.pid_file = room / case.name

    def play(self) -> Outcome:
        stack = self.prepare()
        began = time.monotonic()
        self.stop(stack)
        process_ended_after = None
        if self.case.task == "running" and self.case.agent == "alive":
            pid = self.pid_file.read_text().strip()
            stack.wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists())
            process_ended_after = time.monotonic() - began
        ends = ("DELETE_COMPLETE", "ROLLBACK_COMPLETE", "UPDATE_FAILED")
        stack.wait_until(lambda: stack.status in ends)
        took = time.monotonic() - began
        gone = stack.status == "DELETE_COMPLETE"
        events = " ".join(event.resource_status_reason for event in self.stacks.heat.events.list(stack.id))
        return Outcome(stack.status, took, events if gone else f"{events} {stack.reason}", process_ended_after)

    def prepare(self) -> Stack:
        """A stack of the machine alone; then an update adds the task, and goes on until that is where it should be."""
        stack = self.stacks.create(self.case.name, self.hot.template())
        machine = stack.resource("machine").physical_resource_id
        stack.wait_until(lambda: self.api.get_agent(machine)["state"] == "active")
        if self.case.task == "ready":
            self.api.drain_agent(machine)
        limits: dict[str, Any] = {"timeout_mins": 1} if self.case.verb == "timeout" else {}
        stack.update(self.template(), wait=False, **limits)
        return self.reach(stack)

    def template(self) -> dict[str, Any]:
        text = f"echo $$ > {self.pid_file}; exec sleep 600"
        properties: dict[str, Any] = {"server": "nobody-is-there"} if self.case.agent == "never" else {}
        if self.case.task == "none":
            text = "true"
            properties |= {"actions": ["CREATE", "UPDATE", "DELETE"]}
        made: dict[str, Any] = self.hot.template(say=self.hot.task(self.hot.script(text), **properties))
        return made

    def reach(self, stack: Stack) -> Stack:
        """Wait until the task is where the case wants it; then the agent dies, if it is to."""
        wanted = {"running": "leased", "ready": "ready", "none": "succeeded"}[self.case.task]
        workflow_id = stack_workflow_id(stack.id)

        def there() -> bool:
            with contextlib.suppress(errors.NotFound):
                return [task["state"] for task in self.api.list_tasks(workflow_id)] == [wanted]
            return False

        stack.wait_until(there)
        if self.case.task == "running":
            stack.wait_until(lambda: self.pid_file.exists() and self.pid_file.read_text().strip())
        if self.case.task == "none":
            stack.wait()
        if self.case.agent == "dead":
            machine = stack.resource("machine").physical_resource_id
            if self.case.task == "none":
                self.api.drain_agent(machine)
            self.cloud.agents.process(machine).kill()
        return stack

    def stop(self, stack: Stack) -> None:
        if self.case.verb == "delete":
            stack.delete(wait=False)
        elif self.case.verb == "rollback":
            self.stacks.heat.actions.cancel_update(stack.id)


@pytest.fixture(scope="module")
def outcomes(cloud: DevCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[Case, Outcome]]:
    """All cases, played side by side: most of their time is waiting."""
    room = tmp_path_factory.mktemp("pids")
    stacks, api = Stacks(cloud.session()), Client(cloud.session())
    with concurrent.futures.ThreadPoolExecutor(len(CASES)) as hands:
        playing = {case: hands.submit(Stage(case, Hot(), stacks, cloud, api, room).play) for case in CASES}
        yield {case: done.result() for case, done in playing.items()}
    stacks.delete_all()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_ends_in_time_and_says_what_was_left_undone(case: Case, outcomes: Mapping[Case, Outcome]) -> None:
    outcome = outcomes[case]
    assert outcome.status == case.ends
    assert outcome.took < MOST
    assert case.says in outcome.said
    if outcome.process_ended_after is not None and case.verb != "timeout":
        assert outcome.process_ended_after < TOLD_GUEST


def test_a_task_nobody_waits_for_is_cancelled_when_its_resource_goes(hot: Any, stacks: Stacks, api: Client) -> None:
    unheard = hot.task(hot.script("true"), server="nobody-is-there", signal_transport="NO_SIGNAL")
    stack = stacks.create("unheard", hot.template(unheard=unheard))
    stack.update(hot.template())
    assert [task["state"] for task in api.list_tasks(stack_workflow_id(stack.id))] == ["cancelled"]


def test_an_event_says_where_a_task_waits(hot: Any, stacks: Stacks, cloud: DevCloud) -> None:
    alone = hot.task(hot.script("true"), server="nobody-is-there")
    stack = stacks.create("alone", hot.template(alone=alone), wait=False)

    def told() -> list[str]:
        reasons = [event.resource_status_reason for event in stacks.heat.events.list(stack.id)]
        return [reason for reason in reasons if "no agent of this project has it" in reason]

    stack.wait_until(told)
    assert told()[0].startswith("task alone is ready after ")
    stack.delete()
