# SPDX-License-Identifier: Apache-2.0
"""Rows about running again: what an update runs, as which action, and what it replaces."""

from __future__ import annotations

from typing import Any

from tests.heat_engine.parity.rows import Facts, Room, row


def template(room: Room, **wanted: Any) -> dict[str, Any]:
    """One stack in all its versions; what is not named is as at first."""
    hot = room.hot
    say = hot.script(wanted.get("text", "printf one > $heat_outputs_path.said"), "said")
    keyed = hot.script("true", key="String")
    keyed["inputs"][0]["replace_on_change"] = True
    entries = [
        {"tool": "script", "config": "#!/bin/sh\nprintf made > $heat_outputs_path.how", "actions": ["CREATE"]},
        {"tool": "script", "config": "#!/bin/sh\nprintf again > $heat_outputs_path.how", "actions": ["UPDATE"]},
    ]
    component = {"configs": entries, "outputs": [{"name": "how"}], "inputs": [{"name": "v"}]}
    made: dict[str, Any] = hot.template(
        {"said": {"get_attr": ["say", "said"]}, "how": {"get_attr": ["component", "how"]}},
        second=hot.machine,
        entries={"type": "OS::Heat::SoftwareComponent", "properties": component},
        say=hot.task(say, **wanted.get("say", {})),
        keyed=hot.task(keyed, input_values={"key": wanted.get("key", "a")}),
        moved=hot.task(hot.script("true"), server={"get_resource": wanted.get("server", "machine")}),
        once=hot.task(hot.script(wanted.get("once", "true")), actions=["CREATE"]),
        component=hot.task("entries", input_values={"v": wanted.get("v", "1")}),
        lucky=hot.task(hot.script(wanted.get("luck", "true"))),
        slept=hot.task(hot.script("true"), actions=["CREATE", "SUSPEND", "RESUME"]),
    )
    return made


NAMES = ("say", "keyed", "moved", "once", "component", "lucky", "slept")


def updates(room: Room) -> Facts:
    """One update after the other, and after each which tasks it ran and which resources it replaced."""
    stack = room.stacks.create("updates", template(room))
    facts: Facts = {"created": [(task["name"], task["action"]) for task in room.tasks_of(stack)]}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("same", {}),
        ("config", {"text": "printf two > $heat_outputs_path.said"}),
        ("transport", {"say": {"signal_transport": "TEMP_URL_SIGNAL", "name": "x"}}),
        ("key", {"key": "b"}),
        ("server", {"server": "second"}),
        ("once", {"once": "echo other"}),
        ("component", {"v": "2"}),
        ("failing", {"luck": "exit 1"}),
        ("mended", {"luck": "echo mended"}),
    ]
    wanted: dict[str, Any] = {}
    for name, change in steps:
        wanted |= change
        seen = {task["id"] for task in room.tasks_of(stack)}
        ids = {each: stack.resource(each).physical_resource_id for each in NAMES}
        stack.update(template(room, **wanted), wait=False)
        stack.wait_until(lambda: stack.status in ("UPDATE_COMPLETE", "UPDATE_FAILED"))
        facts[name] = {
            "ran": [(task["name"], task["action"]) for task in room.tasks_of(stack) if task["id"] not in seen],
            "replaced": [each for each in NAMES if stack.resource(each).physical_resource_id != ids[each]],
            "status": stack.status,
            "outputs": stack.outputs,
        }
    for verb, action in ((room.stacks.heat.actions.suspend, "SUSPEND"), (room.stacks.heat.actions.resume, "RESUME")):
        seen = {task["id"] for task in room.tasks_of(stack)}
        verb(stack.id)
        stack.wait_until(lambda wanted=f"{action}_COMPLETE": stack.status == wanted)  # type: ignore[misc]
        ran = [(task["name"], task["action"]) for task in room.tasks_of(stack) if task["id"] not in seen]
        facts[action] = {"ran": ran}
    return facts


@row("again", "Stack create, CREATE in actions", "runs")
def create_runs(room: Room) -> None:
    assert sorted(room.facts_of(updates)["created"]) == sorted((name, "CREATE") for name in NAMES)


@row("again", "Stack update that changes nothing", "runs nothing", "nothing too, unless the last run failed")
def an_update_without_a_change_runs_nothing(room: Room) -> None:
    assert room.facts_of(updates)["same"]["ran"] == []


@row(
    "again",
    "Stack update, property or config changed, UPDATE in actions",
    "runs as UPDATE; the attributes are the new run's",
)
def a_changed_config_runs_as_update(room: Room) -> None:
    facts = room.facts_of(updates)["config"]
    assert (facts["ran"], facts["replaced"]) == ([("say", "UPDATE")], [])
    assert facts["outputs"]["said"] == "two"


@row(
    "again",
    "Stack update, only name or signal_transport changed",
    "name: runs; signal_transport: replaces the deployment",
    "runs nothing and replaces nothing: what is to be done has not changed",
)
def a_changed_transport_or_name_runs_nothing(room: Room) -> None:
    facts = room.facts_of(updates)["transport"]
    assert (facts["ran"], facts["replaced"]) == ([], [])


@row("again", "An input with replace_on_change has another value", "replaces: CREATE of the new, DELETE of the old")
def replace_on_change_replaces(room: Room) -> None:
    facts = room.facts_of(updates)["key"]
    assert (facts["ran"], facts["replaced"]) == ([("keyed", "CREATE")], ["keyed"])


@row("again", "server changed", "replaces")
def another_server_replaces(room: Room) -> None:
    facts = room.facts_of(updates)["server"]
    assert (facts["ran"], facts["replaced"]) == ([("moved", "CREATE")], ["moved"])


@row("again", "Changed, but UPDATE is not in actions", "runs nothing")
def update_must_be_among_the_actions(room: Room) -> None:
    facts = room.facts_of(updates)["once"]
    assert (facts["ran"], facts["replaced"]) == ([], [])


@row("again", "group: component", "the component's entry for UPDATE runs, whatever actions says")
def a_component_updates_by_its_own_entry(room: Room) -> None:
    facts = room.facts_of(updates)["component"]
    assert facts["ran"] == [("component", "UPDATE")]
    assert facts["outputs"]["how"] == "again"


@row(
    "again",
    "Update after a failure",
    "replaces the deployment and runs as CREATE, even if an update failed",
    "runs again in the same resource, with the action that has not succeeded yet",
)
def after_a_failure_the_same_action_runs_again_in_place(room: Room) -> None:
    facts = room.facts_of(updates)
    assert facts["failing"]["status"] == "UPDATE_FAILED"
    assert facts["mended"]["ran"] == [("lucky", "UPDATE")]
    assert facts["mended"]["replaced"] == []


@row("again", "Suspend and resume", "run if they are in actions")
def suspend_and_resume_run_if_they_are_among_the_actions(room: Room) -> None:
    facts = room.facts_of(updates)
    assert facts["SUSPEND"]["ran"] == [("slept", "SUSPEND")]
    assert facts["RESUME"]["ran"] == [("slept", "RESUME")]


@row(
    "again",
    "Order of two deployments of one server that nothing orders",
    "by the name of the derived config: name, else the source config's name",
    "by the property name, if both have one",
)
def tasks_that_nothing_orders_run_by_name(room: Room) -> None:
    written = room.path / "order"
    say = {key: room.hot.script(f"echo {key} >> {written}") for key in ("first", "second", "third")}
    room.stacks.create(
        "ordered",
        room.hot.template(
            a=room.hot.task(say["third"], name="30"),
            b=room.hot.task(say["second"], name="20"),
            c=room.hot.task(say["first"], name="10"),
        ),
    )
    assert written.read_text().split() == ["first", "second", "third"]


@row("again", "Order by name against an order in the template", "the template's order holds")
def what_the_template_orders_goes_before_names(room: Room) -> None:
    written = room.path / "against"
    say = {key: room.hot.script(f"echo {key} >> {written}") for key in ("first", "second")}
    first = room.hot.task(say["first"], name="20")
    second = room.hot.task(say["second"], name="10")
    second["depends_on"] = "a"
    room.stacks.create("against", room.hot.template(a=first, b=second))
    assert written.read_text().split() == ["first", "second"]


@row(
    "again",
    "rolling_update of a group",
    "max_batch_size and pause_time; no error threshold",
    "max_errors besides; the batches are rolled by the tasks API",
)
def a_group_takes_a_rolling_update(room: Room) -> None:
    def group(text: str) -> dict[str, Any]:
        say = {
            "type": "OS::HeatWorkflow::TaskGroup",
            "properties": {"servers": {"a": {"get_resource": "machine"}}, "definition": room.hot.script(text)},
            "update_policy": {"rolling_update": {"max_batch_size": 1, "pause_time": 0, "max_errors": 0}},
        }
        made: dict[str, Any] = room.hot.template({"out": {"get_attr": ["say", "deploy_stdouts"]}}, say=say)
        return made

    stack = room.stacks.create("rolled", group("echo 1"))
    stack.update(group("echo 2"))
    assert stack.outputs["out"] == {"a": "2\n"}
