# SPDX-License-Identifier: Apache-2.0
"""Updates of OS::HeatWorkflow::Task in a real Heat: what changed runs again, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.shapes import Task

Tasks = Callable[[Stack], list[Task]]
OUTPUTS = {"url": {"get_attr": ["app", "url"]}}


def runs(tasks: list[Task]) -> list[tuple[str, str, str]]:
    return [(task["name"], task["action"], task["state"]) for task in tasks]


def two_tasks(hot: Any, version: str, other: str = "true") -> dict[str, Any]:
    """An app whose input is the output of a database of that version, and a task that has to do with neither."""
    made: dict[str, Any] = hot.template(
        OUTPUTS,
        db_config=hot.config(f"printf {version} > $heat_outputs_path.version", "version"),
        app_config=hot.config("printf %s $db > $heat_outputs_path.url", "url", db="String"),
        db=hot.task("db_config"),
        app=hot.task("app_config", input_values={"db": {"get_attr": ["db", "version"]}}),
        other=hot.task(hot.script(other)),
    )
    return made


def test_a_changed_config_runs_its_task_and_what_uses_its_outputs(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    stack = stacks.create("changed", two_tasks(hot, "9"))
    assert stack.outputs == {"url": "9"}
    before = {task["id"] for task in tasks_of(stack)}
    stack.update(two_tasks(hot, "10"))
    assert stack.outputs == {"url": "10"}
    new = [task for task in tasks_of(stack) if task["id"] not in before]
    assert runs(new) == [("db", "UPDATE", "succeeded"), ("app", "UPDATE", "succeeded")]


def test_an_update_that_changes_nothing_runs_nothing(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    stack = stacks.create("same", two_tasks(hot, "9"))
    stack.update(two_tasks(hot, "9"))
    assert len(tasks_of(stack)) == 3


def test_what_is_no_work_may_change_without_a_run(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    say = hot.script("true")
    stack = stacks.create("limits", hot.template(say=hot.task(say, timeout=60)))
    stack.update(hot.template(say=hot.task(say, timeout=90, name="other")))
    assert len(tasks_of(stack)) == 1


def test_update_runs_only_if_it_is_among_the_actions(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    stack = stacks.create("once", hot.template(say=hot.task(hot.script("true"), actions=["CREATE"])))
    stack.update(hot.template(say=hot.task(hot.script("echo more"), actions=["create"])))
    assert runs(tasks_of(stack)) == [("say", "CREATE", "succeeded")]


def test_a_failed_create_that_is_mended_runs_as_create_in_the_same_resource(
    hot: Any, stacks: Stacks, tasks_of: Tasks
) -> None:
    stack = stacks.create("mended", hot.template(say=hot.task(hot.script("exit 1"))), wait=False)
    with pytest.raises(DevCloudError):
        stack.wait()
    resource_id = stack.resource("say").physical_resource_id
    stack.update(hot.template(say=hot.task(hot.script("true"))))
    assert runs(tasks_of(stack)) == [("say", "CREATE", "failed"), ("say", "CREATE", "succeeded")]
    assert stack.resource("say").physical_resource_id == resource_id


def test_a_failed_task_runs_again_without_a_change(hot: Any, stacks: Stacks, tasks_of: Tasks, tmp_path: Any) -> None:
    unlucky = hot.template(say=hot.task(hot.script(f"test -e {tmp_path}/luck")))
    stack = stacks.create("again", unlucky, wait=False)
    with pytest.raises(DevCloudError):
        stack.wait()
    (tmp_path / "luck").touch()
    stack.update(unlucky)
    assert [task["state"] for task in tasks_of(stack)] == ["failed", "succeeded"]


def test_a_failed_update_is_rolled_back_by_running_the_old_definition(
    hot: Any, stacks: Stacks, tasks_of: Tasks
) -> None:
    def say(text: str) -> dict[str, Any]:
        made: dict[str, Any] = hot.template(
            {"said": {"get_attr": ["say", "said"]}},
            say=hot.task(hot.script(f"printf {text} > $heat_outputs_path.said; test {text} != bad", "said")),
        )
        return made

    stack = stacks.create("rolled", say("good"), disable_rollback=False)
    stack.update(say("bad"), wait=False, disable_rollback=False)
    stack.wait_until(lambda: stack.status.startswith("ROLLBACK") and not stack.status.endswith("PROGRESS"))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert stack.outputs == {"said": "good"}
    assert [task["state"] for task in tasks_of(stack)] == ["succeeded", "failed", "succeeded"]


def test_an_input_with_replace_on_change_replaces(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    def say(key: str, other: str) -> dict[str, Any]:
        definition = hot.script("true", key="String", other="String")
        definition["inputs"][0]["replace_on_change"] = True
        made: dict[str, Any] = hot.template(say=hot.task(definition, input_values={"key": key, "other": other}))
        return made

    stack = stacks.create("replace", say("a", "1"))
    first = stack.resource("say").physical_resource_id
    stack.update(say("a", "2"))
    assert stack.resource("say").physical_resource_id == first
    stack.update(say("b", "2"))
    assert stack.resource("say").physical_resource_id != first
    assert [task["action"] for task in tasks_of(stack)] == ["CREATE", "UPDATE", "CREATE"]


def test_another_server_replaces(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    def on(server: str) -> dict[str, Any]:
        say = hot.task(hot.script("true"), server={"get_resource": server})
        made: dict[str, Any] = hot.template(second=hot.machine, say=say)
        return made

    stack = stacks.create("moved", on("machine"))
    first = stack.resource("say").physical_resource_id
    stack.update(on("second"))
    assert stack.resource("say").physical_resource_id != first
    assert [task["server"] for task in tasks_of(stack)] == [
        stack.resource(server).physical_resource_id for server in ("machine", "second")
    ]


def test_suspend_and_resume_run_if_they_are_among_the_actions(hot: Any, stacks: Stacks, tasks_of: Tasks) -> None:
    everything = ["CREATE", "UPDATE", "SUSPEND", "RESUME"]
    said = hot.script("printf $deploy_action > $heat_outputs_path.said", "said")
    outputs = {"said": {"get_attr": ["say", "said"]}}
    stack = stacks.create("asleep", hot.template(outputs, say=hot.task(said, actions=everything)))
    for verb, action in ((stacks.heat.actions.suspend, "SUSPEND"), (stacks.heat.actions.resume, "RESUME")):
        verb(stack.id)
        stack.wait_until(lambda wanted=f"{action}_COMPLETE": stack.status == wanted)  # type: ignore[misc]
    assert [task["action"] for task in tasks_of(stack)] == ["CREATE", "SUSPEND", "RESUME"]
    assert stack.outputs == {"said": "RESUME"}
    stack.update(hot.template(outputs, say=hot.task(said, actions=everything, timeout=9)))
    assert len(tasks_of(stack)) == 3, "what is in effect has not changed"
