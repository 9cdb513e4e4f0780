# SPDX-License-Identifier: Apache-2.0
"""G22, F41, F42: heat-engine killed at each step of each action of a task, a group and a workflow; nothing runs twice,
nothing is lost, nothing hangs, and the stack can be finished."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.heat_kill import killed, traced
from devcloud.stacks import Stack, Stacks
from tests.faults.counts import F41_EVERY, F41_MOMENTS

ALL = ["CREATE", "UPDATE", "SUSPEND", "RESUME", "DELETE"]
Template = dict[str, Any]


@dataclasses.dataclass
class Stage:
    """What a play has: a Heat, a diary that the scripts write, and how a resource of its kind is written."""

    hot: Any
    stacks: Stacks
    directory: pathlib.Path
    kind: str

    @property
    def lines(self) -> list[str]:
        diary = self.directory / "diary"
        return diary.read_text().splitlines() if diary.exists() else []

    def open(self, release: str) -> None:
        """Let the scripts of the release go on that wait."""
        (self.directory / f"gate.{release}").touch()

    def template(self, release: str, waits: bool = False, falls: bool = False, **properties: Any) -> Template:
        """One resource that writes down each action; with ``falls`` another one that fails when its gate is open."""
        wait = f"; until test -e {self.directory}/gate.{release}; do sleep 0.1; done" if waits else ""
        script = self.hot.script(f"echo $deploy_action {release} >> {self.directory}/diary{wait}")
        resources = {"it": self._resource(script, properties)}
        if falls:
            gate = f"until test -e {self.directory}/gate.fall; do sleep 0.1; done; exit 1"
            resources["falls"] = {**self.hot.task(self.hot.script(gate)), "depends_on": "it"}
        made: Template = self.hot.template(**resources)
        return made

    def _resource(self, script: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        server = {"get_resource": "machine"}
        if self.kind == "Task":
            made: dict[str, Any] = self.hot.task(script, **properties)
            return made
        if self.kind == "TaskGroup":
            own = {"definition": script, "servers": {"one": server}, **properties}
        else:
            actions = {name: properties[name] for name in ("actions",) if name in properties}
            rest = {name: value for name, value in properties.items() if name != "actions"}
            own = {"tasks": {"one": {"definition": script, "server": server, **rest}}, **actions}
        return {"type": f"OS::HeatWorkflow::{self.kind}", "properties": own}

    def undo(self, release: str) -> dict[str, Any]:
        made: dict[str, Any] = self.hot.script(f"echo undo {release} >> {self.directory}/diary")
        return made

    def create(self, template: Template, **fields: Any) -> Stack:
        return self.stacks.create("play", template, **fields)

    def act(self, stack: Stack, verb: str) -> None:
        """Suspend or resume."""
        getattr(self.stacks.heat.actions, verb)(stack.id)


@dataclasses.dataclass(frozen=True)
class Play:
    """An action: what is there before, how it begins, how it is said again after the engine died, what ran in all."""

    before: Callable[[Stage], Stack | None]
    begin: Callable[[Stage, Stack | None], Stack]
    again: Callable[[Stage, Stack], None]
    ran: Sequence[str]
    or_ran: Sequence[str] | None = None


def _created(stage: Stage) -> Stack:
    return stage.create(stage.template("one", actions=ALL))


def _begin_create(stage: Stage, _: Stack | None) -> Stack:
    return stage.create(stage.template("one"), wait=False)


def _again_create(stage: Stage, stack: Stack) -> None:
    stack.update(stage.template("one"))


def _begin_update(stage: Stage, stack: Stack | None) -> Stack:
    assert stack is not None
    stack.update(stage.template("two", actions=ALL), wait=False)
    return stack


def _again_update(stage: Stage, stack: Stack) -> None:
    stack.update(stage.template("two", actions=ALL))


def _begin_delete(_: Stage, stack: Stack | None) -> Stack:
    assert stack is not None
    stack.delete(wait=False)
    return stack


def _again_delete(_: Stage, stack: Stack) -> None:
    stack.delete()


def _begin_verb(verb: str) -> Callable[[Stage, Stack | None], Stack]:
    def begin(stage: Stage, stack: Stack | None) -> Stack:
        assert stack is not None
        stage.act(stack, verb)
        return stack

    return begin


def _again_verb(verb: str) -> Callable[[Stage, Stack], None]:
    def again(stage: Stage, stack: Stack) -> None:
        if stack.status != f"{verb.upper()}_COMPLETE":
            stage.act(stack, verb)
        stack.wait_until(lambda: stack.status == f"{verb.upper()}_COMPLETE")

    return again


def _suspended(stage: Stage) -> Stack:
    stack = _created(stage)
    stage.act(stack, "suspend")
    stack.wait_until(lambda: stack.status == "SUSPEND_COMPLETE")
    return stack


def _undoable(stage: Stage) -> Stack:
    return stage.create(stage.template("one", undo=stage.undo("one")))


def _begin_leaving(stage: Stage, stack: Stack | None) -> Stack:
    assert stack is not None
    stack.update(stage.hot.template(), wait=False)
    return stack


def _again_leaving(stage: Stage, stack: Stack) -> None:
    stack.update(stage.hot.template())


def _about_to_fall(stage: Stage) -> Stack:
    """An update that has done its work and waits for what will fail."""
    stack = _undoable(stage)
    second = stage.template("two", falls=True, undo=stage.undo("two"))
    stack.update(second, wait=False, disable_rollback=False)
    stack.wait_until(lambda: "UPDATE two" in stage.lines and stack.resource("it").resource_status == "UPDATE_COMPLETE")
    return stack


def _begin_rollback(stage: Stage, stack: Stack | None) -> Stack:
    assert stack is not None
    stage.open("fall")
    return stack


def _again_rollback(stage: Stage, stack: Stack) -> None:
    stack.update(stage.template("one", undo=stage.undo("one")))


def _running(stage: Stage) -> Stack:
    stack = stage.create(stage.template("one", waits=True), wait=False)
    stack.wait_until(lambda: stage.lines == ["CREATE one"])
    return stack


PLAYS = {
    "create": Play(lambda _: None, _begin_create, _again_create, ["CREATE one"]),
    "update": Play(_created, _begin_update, _again_update, ["CREATE one", "UPDATE two"]),
    "delete": Play(_created, _begin_delete, _again_delete, ["CREATE one", "DELETE one"]),
    "suspend": Play(_created, _begin_verb("suspend"), _again_verb("suspend"), ["CREATE one", "SUSPEND one"]),
    "resume": Play(
        _suspended, _begin_verb("resume"), _again_verb("resume"), ["CREATE one", "SUSPEND one", "RESUME one"]
    ),
    "leave": Play(_undoable, _begin_leaving, _again_leaving, ["CREATE one", "undo one"]),
    "roll back": Play(
        _about_to_fall,
        _begin_rollback,
        _again_rollback,
        ["CREATE one", "UPDATE two", "undo two", "UPDATE one"],
        # The rollback died before it undid anything. What finishes the stack is an update, and that undoes nothing.
        or_ran=["CREATE one", "UPDATE two", "UPDATE one"],
    ),
    "delete what runs": Play(_running, _begin_delete, _again_delete, ["CREATE one"]),
}
# By kind and play, the steps that change something. A step that is not here fails the test that comes to it.
STEPS: dict[tuple[str, str], list[str]] = {
    ("Task", "create"): ["put_agent", "put_task", "save_runs"],
    ("Task", "update"): ["put_task", "save_runs"],
    ("Task", "delete"): ["delete_agent", "delete_task", "put_task", "save_runs"],
    ("Task", "suspend"): ["put_task", "save_runs"],
    ("Task", "resume"): ["put_task", "save_runs"],
    ("Task", "leave"): ["delete_task", "patch_task", "undo_task"],
    ("Task", "roll back"): ["delete_task", "patch_task", "put_task", "save_runs", "undo_task"],
    ("Task", "delete what runs"): ["cancel_task", "delete_agent", "delete_task"],
    ("TaskGroup", "create"): ["put_agent", "put_task", "save_runs"],
    ("TaskGroup", "update"): ["act_on_tasks", "put_task", "save_runs"],
    ("TaskGroup", "delete"): ["act_on_tasks", "delete_agent", "put_task", "save_runs"],
    ("TaskGroup", "suspend"): ["put_task", "save_runs"],
    ("TaskGroup", "resume"): ["put_task", "save_runs"],
    ("TaskGroup", "leave"): ["act_on_tasks"],
    ("TaskGroup", "roll back"): ["act_on_tasks", "delete_task", "put_task", "save_runs"],
    ("TaskGroup", "delete what runs"): ["act_on_tasks", "delete_agent"],
    ("Workflow", "create"): ["put_agent", "put_workflow", "save_runs"],
    ("Workflow", "update"): ["act_on_tasks", "post_tasks", "save_runs"],
    ("Workflow", "delete"): ["act_on_tasks", "delete_agent", "post_tasks", "save_runs"],
    ("Workflow", "suspend"): ["post_tasks", "save_runs"],
    ("Workflow", "resume"): ["post_tasks", "save_runs"],
    ("Workflow", "leave"): ["act_on_tasks"],
    ("Workflow", "roll back"): ["act_on_tasks", "delete_task", "post_tasks", "save_runs"],
    ("Workflow", "delete what runs"): ["act_on_tasks", "delete_agent"],
}
READS = ("get_", "list_")
# What only the engine that comes after does: it lets go of a run that was never asked for, and joins an agent anew.
FINISHING = {"delete_task", "patch_agent", "rejoin_agent"}
CASES = [(kind, play, when, step) for (kind, play), steps in STEPS.items() for step in steps for when in F41_MOMENTS]


@pytest.mark.parametrize(("kind", "play", "when", "step"), CASES[::F41_EVERY])
def test_f41_f42_killed_at_any_step_nothing_runs_twice_and_the_stack_can_be_finished(
    kind: str, play: str, when: str, step: str, hot: Any, stacks: Stacks, cloud: DevCloud, tmp_path: pathlib.Path
) -> None:
    stage, what = Stage(hot, stacks, tmp_path, kind), PLAYS[play]
    before = what.before(stage)
    with traced(cloud.directory) as steps, killed(cloud.heat, cloud.directory, when, step):
        stack = what.begin(stage, before)
        assert cloud.heat.wait(60), f"stack {stack.name} never came to {step}"
        cloud.heat.start()
        what.again(stage, stack)
        assert stage.lines in (what.ran, what.or_ran)
        # Beside the resource there may be a Task: the one that fails. What finishes a stack is an update.
        changes = {name for name in steps() if not name.startswith(READS)}
    known = {*STEPS[kind, play], *STEPS[kind, "update"], *STEPS["Task", play], *FINISHING}
    assert changes <= known, "a step that nothing is killed at"
