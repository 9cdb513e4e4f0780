# SPDX-License-Identifier: Apache-2.0
"""Servers that join and leave in a real Heat: DELETE runs what was deployed there, and UPDATE without a CREATE."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.settings import DevCloudError
from devcloud.stacks import Stacks
from tests.heat_engine.servers import servers_of

ALL = ["CREATE", "UPDATE", "DELETE"]


@pytest.fixture(scope="module")
def fleet(cloud: Any) -> Any:
    """Three servers that outlive the stacks of this module, by name."""
    with servers_of(cloud, ("a", "b", "c")) as servers:
        yield servers


class Diary:
    """What scripts said since it was read last, in the order in which they ran."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def script(self, words: str, *inputs: str, then: str = "true") -> dict[str, Any]:
        """A definition that writes the words down, then does something else."""
        text = f"#!/bin/sh\necho {words} >> {self._path}\n{then}\n"
        return {"group": "script", "config": text, "inputs": [{"name": name} for name in inputs]}

    def component(self, *inputs: str, **words: str) -> dict[str, Any]:
        """The resource of a software component that writes down these words for these actions."""
        configs = [
            {"actions": [action], "tool": "script", "config": f"#!/bin/sh\necho {said} >> {self._path}\n"}
            for action, said in words.items()
        ]
        properties = {"configs": configs, "inputs": [{"name": name} for name in inputs]}
        return {"type": "OS::Heat::SoftwareComponent", "properties": properties}

    def read(self) -> list[str]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def diary(tmp_path: pathlib.Path) -> Diary:
    return Diary(tmp_path / "diary")


def template(**resources: Any) -> dict[str, Any]:
    return {"heat_template_version": "2021-04-16", "resources": resources}


def resource(kind: str, policy: Any = None, **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": f"OS::HeatWorkflow::{kind}", "properties": properties}
    return {**made, "update_policy": policy} if policy else made


def test_after_a_creation_that_had_nothing_to_run_update_runs(stacks: Stacks, fleet: Any, diary: Diary) -> None:
    def everything(value: str, *servers: str, limit: int = 60, **changed: Any) -> dict[str, Any]:
        on, asked = {name: fleet[name] for name in servers}, {"input_values": {"v": value}, "timeout": limit}
        who = "$deploy_action $deploy_resource_name $v"
        structured = {"group": "script", "config": {"get_input": "v"}, "inputs": [{"name": "v"}]}
        only = {"actions": ["UPDATE"], **asked}
        inline = {name: {"definition": diary.script(f"$deploy_action {name} $v", "v"), **asked} for name in ("x", "y")}
        return template(
            part=diary.component("v", UPDATE=who, DELETE="bye $deploy_resource_name $v"),
            group=resource("TaskGroup", definition=diary.script(who, "v"), servers=on, **only),
            parts=resource("TaskGroup", config={"get_resource": "part"}, servers=on, **asked),
            one=resource("Task", config={"get_resource": "part"}, server=fleet["a"], **asked),
            alone=resource("Task", definition=diary.script(who, "v"), server=fleet["a"], **only),
            structured=resource(
                "StructuredTask",
                definition={**structured, "config": {"x": {"get_input": "v"}}, "group": "Heat::Ungrouped"},
                server=fleet["a"],
                **only,
            ),
            flow=resource(
                "Workflow",
                tasks={"x": {**inline["x"], "server": fleet["a"]}, "y": {**inline["y"], "servers": on}},
                actions=["UPDATE"],
            ),
            **changed,
        )

    def updated(value: str, *servers: str) -> list[str]:
        everywhere = [f"UPDATE {name} {value}" for name in servers for _ in ("group", "parts")]
        inline = [f"UPDATE x {value}", *(f"UPDATE y {value}" for _ in servers)]
        return sorted([*everywhere, *inline, f"UPDATE one {value}", f"UPDATE alone {value}"])

    stack = stacks.create("idle", everything("1", "a"))
    assert diary.read() == []
    stack.update(everything("1", "a", limit=90))
    assert diary.read() == [], "nothing of the work has changed"
    stack.update(everything("2", "a"))
    assert sorted(diary.read()) == updated("2", "a")
    stack.update(everything("2", "a", "b"))
    assert diary.read() == [], "on a server that joins there is nothing to create"
    stack.update(everything("3", "a", "b"))
    assert sorted(diary.read()) == updated("3", "a", "b")
    stack.update(everything("3", "a", "c"))
    assert diary.read() == ["bye b 3"], "what the component says of DELETE"
    stack.delete()
    assert sorted(diary.read()) == ["bye a 3", "bye c 3", "bye one 3"], "c has run nothing else"


def test_a_failed_creation_that_is_not_wanted_any_more_is_no_failure_and_update_runs_next(
    stacks: Stacks, fleet: Any, diary: Diary
) -> None:
    def both(value: str, *actions: str) -> dict[str, Any]:
        what = diary.script("$deploy_action $v", "v", then="test $deploy_action = UPDATE")
        asked = {"definition": what, "actions": list(actions), "input_values": {"v": value}}
        group = resource("TaskGroup", servers={"a": fleet["a"]}, **asked)
        return template(group=group, task=resource("Task", server=fleet["a"], **asked))

    stack = stacks.create("unwanted", both("1", "CREATE", "UPDATE"), wait=False)
    with pytest.raises(DevCloudError):
        stack.wait()
    stack.wait_until(lambda: not any(r.resource_status.endswith("IN_PROGRESS") for r in stack.resources()))
    assert set(diary.read()) == {"CREATE 1"}
    stack.update(both("1", "UPDATE"))
    assert diary.read() == []
    stack.update(both("2", "UPDATE"))
    assert diary.read() == ["UPDATE 2"] * 2


def test_a_server_that_leaves_takes_down_what_was_deployed_there_whatever_else_changes(
    stacks: Stacks, fleet: Any, diary: Diary
) -> None:
    said = "$deploy_action $deploy_resource_name $v"

    def groups(new: bool, priority: int = 0) -> dict[str, Any]:
        def named(label: str) -> str:
            return f"{label} {'new' if new else 'old'} {said}"

        values = {"v": "2" if new else "1"}
        servers = {name: fleet[name] for name in ("a" if new else "ab")}
        usual: dict[str, Any] = {"servers": servers, "actions": ALL, "input_values": values, "priority": priority}
        config = {"type": "OS::Heat::SoftwareConfig", "properties": diary.script(named("config"), "v")}
        component = diary.component("v", **{action: named("component") for action in ("CREATE", "DELETE")})
        without = diary.component("v", CREATE="component", UPDATE="component")
        key = diary.script("key $deploy_action $deploy_resource_name $v", "v")
        key["inputs"][0]["replace_on_change"] = True
        hidden = {
            "hidden_inputs": ["v"],
            "definition": diary.script('hidden $deploy_action $(grep -o \'"v": "[12]"\' $HW_INPUTS_FILE | tr -dc 12)'),
        }
        return template(
            config=config,
            component=component,
            dropped=without if new else diary.component("v", CREATE="dropped", DELETE=f"dropped {said}"),
            script=resource("TaskGroup", **{**usual, "definition": diary.script(named("script"), "v")}),
            by_id=resource("TaskGroup", **{**usual, "config": {"get_resource": "config"}}),
            parts=resource("TaskGroup", **{**usual, "config": {"get_resource": "component"}}),
            exchanged=resource("TaskGroup", **{**usual, "config": {"get_resource": "dropped"}}),
            no_delete=resource(
                "TaskGroup",
                **{**usual, "definition": diary.script(f"no_delete {said}", "v"), "actions": ALL[: 2 if new else 3]},
            ),
            emptied=resource(
                "TaskGroup",
                **{**usual, "definition": diary.script(f"emptied {said}", "v"), "servers": {} if new else servers},
            ),
            moved=resource(
                "TaskGroup",
                **{
                    **usual,
                    "definition": diary.script(f"moved {said} $deploy_server_id", "v"),
                    "servers": {"x": fleet["c" if new else "a"]},
                },
            ),
            key=resource("TaskGroup", **{**usual, "definition": key, "servers": {"a": fleet["a"]}}),
            hidden=resource("TaskGroup", **{**usual, **hidden}),
            **(
                {}
                if new
                else {"gone": resource("TaskGroup", **{**usual, "definition": diary.script(f"gone {said}", "v")})}
            ),
        )

    def parts(lines: list[str], *words: str) -> list[str]:
        return sorted(line for line in lines if set(words) <= set(line.split()))

    stack = stacks.create("leaving", groups(new=False))
    diary.read()
    stack.update(groups(new=True))
    lines = diary.read()
    assert parts(lines, "DELETE") == [
        "component old DELETE b 1",
        "config old DELETE b 1",
        "dropped DELETE b 1",
        "emptied DELETE a 1",
        "emptied DELETE b 1",
        "gone DELETE a 1",
        "gone DELETE b 1",
        "hidden DELETE 1",
        "key DELETE a 1",
        f"moved DELETE x 1 {fleet['a']}",
        "no_delete DELETE b 1",
        "script old DELETE b 1",
    ]
    assert [line for line in lines if line.startswith("key")] == ["key DELETE a 1", "key CREATE a 2"]
    assert [line for line in lines if line.startswith("moved")] == [
        f"moved DELETE x 1 {fleet['a']}",
        f"moved CREATE x 2 {fleet['c']}",
    ]
    assert parts(lines, "script", "UPDATE") == ["script new UPDATE a 2"]
    stack.update(groups(new=True, priority=1))
    assert diary.read() == [], "nobody leaves twice"
    stack.delete()
    assert parts(diary.read(), "DELETE") == [
        "component new DELETE a 2",
        "config new DELETE a 2",
        "hidden DELETE 2",
        "key DELETE a 2",
        f"moved DELETE x 2 {fleet['c']}",
        "script new DELETE a 2",
    ]


def test_a_server_on_which_the_update_failed_takes_down_what_is_in_effect_there(
    stacks: Stacks, fleet: Any, diary: Diary
) -> None:
    """The last version that was applied to the group is not what is on that server."""

    def groups(version: int, *servers: str, **more: Any) -> dict[str, Any]:
        usual: dict[str, Any] = {
            "servers": {name: fleet[name] for name in servers},
            "actions": ALL,
            "input_values": {"v": str(version)},
        }
        fails = "test $deploy_action$v$deploy_resource_name != UPDATE2b"
        script = diary.script(f"script{version} $deploy_action $deploy_resource_name $v", "v", then=fails)
        part = diary.component("v", CREATE=f"part{version}", DELETE=f"part{version} DELETE $deploy_resource_name $v")
        update = {"actions": ["UPDATE"], "tool": "script", "config": f"#!/bin/sh\n{fails}\n"}
        part["properties"]["configs"].append(update)
        policy = {"rolling_update": {"max_errors": 1, "max_batch_size": 2}}
        return template(
            part=part,
            script=resource("TaskGroup", policy, definition=script, **usual),
            parts=resource("TaskGroup", policy, config={"get_resource": "part"}, **usual),
            **more,
        )

    stack = stacks.create("tolerated", groups(1, "a", "b"))
    stack.update(groups(2, "a", "b"))
    diary.read()
    stack.update(groups(2, "a"))
    assert sorted(diary.read()) == ["part1 DELETE b 1", "script1 DELETE b 1"]
    stack.delete()
    assert sorted(diary.read()) == ["part2 DELETE a 2", "script2 DELETE a 2"]


def test_deleting_after_an_update_that_failed_takes_down_what_each_server_has(
    stacks: Stacks, fleet: Any, diary: Diary
) -> None:
    """A rolling update stopped at b, and c was not reached; another resource fails, so that Heat applied nothing."""

    def three(version: int) -> dict[str, Any]:
        what = diary.script(
            f"{version} $deploy_action $deploy_resource_name $v", "v", then="test $v$deploy_resource_name != 2b"
        )
        asked = {"definition": what, "actions": ALL, "input_values": {"v": str(version)}}
        task = diary.script(f"{version} $deploy_action task $v", "v")
        return template(
            group=resource("TaskGroup", {"rolling_update": {"max_batch_size": 1}}, servers=fleet, **asked),
            task=resource("Task", server=fleet["a"], **{**asked, "definition": task}),
        )

    stack = stacks.create("stopped", three(1))
    stack.update(three(2), wait=False)
    with pytest.raises(DevCloudError, match=r"failed on 1 of 3 servers: b .*exit code 1.*; not begun on 1: c"):
        stack.wait()
    assert sorted(diary.read())[-3:] == ["2 UPDATE a 2", "2 UPDATE b 2", "2 UPDATE task 2"]
    stack.delete()
    assert sorted(diary.read()) == ["1 DELETE b 1", "1 DELETE c 1", "2 DELETE a 2", "2 DELETE task 2"]


def test_tasks_that_leave_a_workflow_are_taken_down_in_reverse_order_with_what_they_had(
    stacks: Stacks, fleet: Any, diary: Diary
) -> None:
    def flow(version: int, *names: str, servers: str = "ab", actions: list[str] = ALL) -> dict[str, Any]:
        def task(name: str, **more: Any) -> dict[str, Any]:
            what = diary.script(
                f"{name}{version} $deploy_action $v $x $deploy_server_id",
                "v",
                "x",
                then=f"printf {name}{version} > $heat_outputs_path.y",
            )
            return {"definition": {**what, "outputs": [{"name": "y"}]}, "input_values": {"v": str(version)}, **more}

        every = {
            "one": task("one", server=fleet["a"]),
            "two": task("two", server=fleet["b"], requires=["one"]),
            "three": task("three", server=fleet["a"]),
            "fan": task("fan", servers={name: fleet[name] for name in servers}),
        }
        every["three"]["input_values"]["x"] = {"get_output": ["two", "y"]}
        tasks = {name: every[name] for name in names}
        return template(flow=resource("Workflow", tasks=tasks, actions=actions))

    stack = stacks.create("parts", flow(1, "one", "two", "three", "fan"))
    diary.read()
    stack.update(flow(2, "one", "fan", servers="a", actions=["CREATE", "UPDATE"]))
    lines = diary.read()
    left = [line for line in lines if "DELETE" in line]
    assert sorted(left) == sorted(
        [
            f"three1 DELETE 1 two1 {fleet['a']}",
            f"two1 DELETE 1 {fleet['b']}",
            f"fan1 DELETE 1 {fleet['b']}",
        ]
    )
    assert [line.split()[0] for line in left if line[0] == "t"] == ["three1", "two1"], "in reverse order"
    assert sorted(line.split()[0] for line in lines if "UPDATE" in line) == ["fan2", "one2"]
    stack.update(flow(2, "one", "fan", servers="a"))
    assert diary.read() == []
    stack.delete()
    assert sorted(line.split()[0] for line in diary.read()) == ["fan2", "one2"]


def test_the_record_of_a_workflows_task_has_the_values_that_it_was_given(
    stacks: Stacks, fleet: Any, diary: Diary
) -> None:
    """What is in effect is not what the template says: the update failed, then the stack is deleted."""

    def flow(version: int) -> dict[str, Any]:
        first = diary.script("first", then=f"printf made{version} > $heat_outputs_path.y")
        second = diary.script(f"second{version} $deploy_action $x", "x", then="test $deploy_action$x != UPDATEmade2")
        tasks = {
            "first": {"definition": {**first, "outputs": [{"name": "y"}]}, "server": fleet["a"]},
            "second": {
                "definition": second,
                "server": fleet["b"],
                "input_values": {"x": {"get_output": ["first", "y"]}},
            },
            "third": {"definition": diary.script(f"third{version} $deploy_action"), "server": fleet["a"]},
        }
        tasks["third"]["requires"] = ["second"]
        return template(flow=resource("Workflow", tasks=tasks, actions=ALL))

    stack = stacks.create("given", flow(1))
    stack.update(flow(2), wait=False)
    with pytest.raises(DevCloudError, match=r"task second on server .* failed with exit code 1"):
        stack.wait()
    diary.read()
    stack.delete()
    lines = diary.read()
    assert lines == ["third1 DELETE", "second1 DELETE made1", "first"]


def gated(diary: Diary, gate: pathlib.Path, fleet: Any, *servers: str) -> dict[str, Any]:
    """A group whose DELETE waits for the gate."""
    waits = f"test $deploy_action != DELETE || until test -e {gate}; do sleep 0.1; done"
    what = diary.script("$deploy_action $deploy_resource_name", then=waits)
    on = {name: fleet[name] for name in servers}
    return template(group=resource("TaskGroup", definition=what, servers=on, actions=ALL))


@pytest.mark.parametrize("killed", ["api", "heat"])
def test_g22_a_server_leaves_once_though_the_api_or_heat_was_killed_meanwhile(
    stacks: Stacks, fleet: Any, diary: Diary, tmp_path: pathlib.Path, cloud: DevCloud, killed: str
) -> None:
    gate = tmp_path / "gate"
    stack = stacks.create("outage", gated(diary, gate, fleet, "a", "b"))
    diary.read()
    lines: list[str] = []

    def begun() -> bool:
        lines.extend(diary.read())
        return bool(lines)

    moved = gated(diary, gate, {**fleet, "a": fleet["c"]}, "a")
    stack.update(moved, wait=False)
    stack.wait_until(begun)
    process: Any = cloud.api if killed == "api" else cloud.heat
    process.kill()
    process.start()
    if killed == "heat":
        stack.update(moved, wait=False)
    gate.touch()
    stack.wait()
    assert sorted([*lines, *diary.read()]) == ["CREATE a", "DELETE a", "DELETE b"]


def test_a_dead_server_that_leaves_does_not_hold_up_the_update(stacks: Stacks, fleet: Any, diary: Diary) -> None:
    def group(**servers: str) -> dict[str, Any]:
        what = diary.script("$deploy_action $deploy_resource_name")
        asked = {"definition": what, "actions": ["DELETE"], "pickup_timeout": 1}
        return template(group=resource("TaskGroup", servers=servers, **asked))

    stack = stacks.create("corpse", group(a=fleet["a"], dead="nobody-is-there"))
    stack.update(group(a=fleet["a"]))
    said = [event.resource_status_reason for event in stack.events() if event.resource_name == "group"]
    assert [one for one in said if one.startswith("task group/dead of action DELETE was skipped: no agent")]
    stack.delete()
    assert diary.read() == ["DELETE a"]
