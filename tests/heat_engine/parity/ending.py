# SPDX-License-Identifier: Apache-2.0
"""Rows about endings: delete, cancel, and what a stack operation may do to tasks without running any."""

from __future__ import annotations

import contextlib
import json
import pathlib
from typing import Any

from tests.heat_engine.parity.rows import Facts, Room, row


def parting(room: Room) -> Facts:
    """A stack with a task that has a last word to say, deleted."""
    said = room.path / "parting"
    last = room.hot.script(f"test $deploy_action = CREATE || sleep 1; echo $deploy_action >> {said}")
    other = room.hot.script(f"echo other-$deploy_action >> {said}")
    stack = room.stacks.create(
        "parting",
        room.hot.template(
            note=room.hot.config("true"),
            last=room.hot.task(last, actions=["CREATE", "DELETE"]),
            other=room.hot.task(other),
            by_id=room.hot.task("note"),
        ),
    )
    stack.delete()
    return {"said": said.read_text().split()}


@row(
    "ending",
    "DELETE in actions",
    "runs; on a DeployedServer the deletion does not wait for it",
    "runs and is waited for, on every kind of server; skipped with a stack event if no agent takes it in time",
)
def a_delete_task_runs_and_is_waited_for(room: Room) -> None:
    assert "DELETE" in room.facts_of(parting)["said"]


@row("ending", "DELETE not in actions", "nothing runs", "nothing, but the undo of a task that leaves a living server")
def without_delete_among_the_actions_nothing_runs(room: Room) -> None:
    assert "other-DELETE" not in room.facts_of(parting)["said"]


@row(
    "ending",
    "Cancel: delete or timeout while it runs",
    "the resource is FAILED, the guest is not told and goes on",
    "the task is cancelled, the guest's process ended",
)
def a_cancel_reaches_the_guest(room: Room) -> None:
    pid_file = room.path / "pid"
    long = room.hot.script(f"echo $$ > {pid_file}; exec sleep 600")
    stack = room.stacks.create("cancelled", room.hot.template(say=room.hot.task(long)), wait=False)
    stack.wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())
    stack.delete()
    assert not pathlib.Path(f"/proc/{pid_file.read_text().strip()}").exists()


@row(
    "ending",
    "The config is deleted while a deployment uses it",
    "refused",
    "a task keeps a copy of its definition: the config may go",
)
def a_config_may_go_before_its_task(room: Room) -> None:
    assert room.facts_of(parting)["said"]  # the stack with by_id, whose config Heat deleted in its turn, is gone


def handled(room: Room) -> Facts:
    """Everything that Heat may do to a stack without changing it, one after the other."""
    heat, hot = room.stacks.heat, room.hot

    def template(text: str, key: str = "a") -> dict[str, Any]:
        keyed = hot.script("true", key="String")
        keyed["inputs"][0]["replace_on_change"] = True
        made: dict[str, Any] = hot.template(
            {"said": {"get_attr": ["say", "said"]}},
            say=hot.task(hot.script(f"printf {text} > $heat_outputs_path.said", "said")),
            keyed=hot.task(keyed, input_values={"key": key}),
            noted=hot.task(hot.script(f"echo {text}"), server="nobody-is-there", signal_transport="NO_SIGNAL"),
        )
        return made

    stack = room.stacks.create("handled", template("one"))
    facts: Facts = {}

    def ran(name: str) -> None:
        facts[name] = len(room.tasks_of(stack)) - 3

    heat.actions.check(stack.id)
    stack.wait_until(lambda: stack.status == "CHECK_COMPLETE")
    ran("check")
    snapshot = heat.stacks.snapshot(stack.id)["id"]
    stack.wait_until(lambda: heat.stacks.snapshot_show(stack.id, snapshot)["snapshot"]["status"] == "COMPLETE")
    ran("snapshot")
    changes = heat.stacks.preview_update(stack.id, template=template("two", "b"), parameters={})["resource_changes"]
    facts["preview"] = {name: [each["resource_name"] for each in listed] for name, listed in changes.items()}
    ran("previewed")
    ids = {name: stack.resource(name).physical_resource_id for name in ("say", "machine")}
    data = heat.stacks.abandon(stack.id)
    body = json.dumps(data)
    again = room.stacks.create("adopted", template("one"), adopt_stack_data=body)
    facts["same ids"] = ids == {name: again.resource(name).physical_resource_id for name in ids}
    facts["said"] = again.outputs
    ran("adopt")
    again.update(template("two"))
    facts["updated"] = again.outputs
    facts["in the same workflow"] = [(task["name"], task["action"]) for task in room.tasks_of(stack)][3:]
    with contextlib.suppress(Exception):
        stack.delete()
    return facts


@row("stack", "check", "is not supported by deployments: the stack is CHECK_COMPLETE, nothing runs")
def check_runs_nothing(room: Room) -> None:
    assert room.facts_of(handled)["check"] == 0


@row("stack", "snapshot", "is COMPLETE, nothing runs")
def a_snapshot_runs_nothing(room: Room) -> None:
    assert room.facts_of(handled)["snapshot"] == 0


@row(
    "stack",
    "update --dry-run",
    "says what would be updated, and replaced (at worst: a reference to a resource counts as changed); runs nothing",
)
def a_preview_tells_and_runs_nothing(room: Room) -> None:
    facts = room.facts_of(handled)
    assert facts["preview"]["updated"] == ["noted"]
    assert sorted(facts["preview"]["replaced"]) == ["keyed", "say"]
    assert facts["previewed"] == 0


@row(
    "stack",
    "abandon and adopt",
    "the new stack takes the deployments over",
    "and the tasks with them: an update goes on in the workflow of the first stack, with its own inputs and outputs",
)
def an_adopted_stack_goes_on_where_the_first_was(room: Room) -> None:
    facts = room.facts_of(handled)
    assert facts["adopt"] == 0
    assert facts["same ids"]
    assert facts["said"] == {"said": "one"}
    assert facts["updated"] == {"said": "two"}
    assert ("say", "UPDATE") in facts["in the same workflow"]
