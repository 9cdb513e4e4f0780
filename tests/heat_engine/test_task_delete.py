# SPDX-License-Identifier: Apache-2.0
"""Deleting and cancelling OS::HeatWorkflow::Task in a real Heat: the guest is told, nothing hangs, history stays."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow import errors
from heat_workflow.client import Client, stack_workflow_id
from heat_workflow.shapes import Task

Tasks = Callable[[Stack], list[Task]]


def test_delete_detaches_the_tasks_and_revokes_the_agent(
    hot: Any, stacks: Stacks, tasks_of: Tasks, api: Client
) -> None:
    stack = stacks.create("gone", hot.template(say=hot.task(hot.script("true"))))
    agent_id = stack.resource("machine").physical_resource_id
    assert api.get_agent(agent_id)["state"] == "active"
    stack.delete()
    assert [(task["state"], task["detached"]) for task in tasks_of(stack)] == [("succeeded", True)]
    assert api.get_workflow(stack_workflow_id(stack.id))["state"] == "closed"
    with pytest.raises(errors.NotFound):
        api.get_agent(agent_id)


def test_delete_in_the_actions_runs_before_the_server_goes(
    hot: Any, stacks: Stacks, tasks_of: Tasks, tmp_path: pathlib.Path
) -> None:
    bye = hot.script(f"echo $deploy_action >> {tmp_path}/said")
    stack = stacks.create("bye", hot.template(say=hot.task(bye, actions=["CREATE", "DELETE"])))
    stack.delete()
    assert (tmp_path / "said").read_text() == "CREATE\nDELETE\n"
    assert [(task["action"], task["detached"]) for task in tasks_of(stack)] == [("CREATE", True), ("DELETE", True)]


def test_a_delete_task_that_fails_fails_the_delete_and_may_be_repeated(
    hot: Any, stacks: Stacks, tmp_path: pathlib.Path
) -> None:
    stubborn = hot.script(f"test $deploy_action = CREATE || test -e {tmp_path}/allowed")
    stack = stacks.create("stubborn", hot.template(say=hot.task(stubborn, actions=["CREATE", "DELETE"])))
    with pytest.raises(DevCloudError, match=r"task say on server .* failed with exit code 1"):
        stack.delete()
    (tmp_path / "allowed").touch()
    stack.delete()


def test_a_delete_task_that_no_agent_takes_is_skipped_and_an_event_says_so(hot: Any, stacks: Stacks) -> None:
    last = hot.task(hot.script("true"), server="nobody-is-there", actions=["DELETE"], pickup_timeout=1)
    stack = stacks.create("skipped", hot.template(say=last))
    stack.delete()
    reasons = [
        event.resource_status_reason for event in stacks.heat.events.list(stack.id) if event.resource_name == "say"
    ]
    assert any(reason.startswith("task say of action DELETE was skipped: no agent picked it up") for reason in reasons)


def test_delete_ends_what_runs(hot: Any, stacks: Stacks, tasks_of: Tasks, tmp_path: pathlib.Path) -> None:
    long = hot.script(f"echo $$ > {tmp_path}/pid; exec sleep 600")
    stack = stacks.create("long", hot.template(say=hot.task(long)), wait=False)
    stack.wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    stack.delete()
    pid = int((tmp_path / "pid").read_text())
    assert not pathlib.Path(f"/proc/{pid}").exists()
    assert [(task["state"], task["detached"]) for task in tasks_of(stack)] == [("cancelled", True)]


def test_rolling_back_ends_what_runs(hot: Any, stacks: Stacks, tmp_path: pathlib.Path) -> None:
    def say(text: str) -> dict[str, Any]:
        made: dict[str, Any] = hot.template(
            {"said": {"get_attr": ["say", "said"]}}, say=hot.task(hot.script(text, "said"))
        )
        return made

    stack = stacks.create("back", say("printf short > $heat_outputs_path.said"))
    stack.update(say(f"echo $$ > {tmp_path}/pid; exec sleep 600"), wait=False)
    stack.wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    stacks.heat.actions.cancel_update(stack.id)
    stack.wait_until(lambda: stack.status == "ROLLBACK_COMPLETE")
    assert stack.outputs == {"said": "short"}
    assert not pathlib.Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()


def test_deleting_a_stack_whose_agent_never_joined(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    alone = hot.task(hot.script("true"), server="nobody-is-there")
    stack = stacks.create("never", hot.template(alone=alone), wait=False)
    stack.wait_until(lambda: stack.resource("alone").resource_status == "CREATE_IN_PROGRESS" and tasks_of(stack))
    stack.delete()
    assert [task["state"] for task in tasks_of(stack)] == ["cancelled"]
