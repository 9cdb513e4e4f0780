# SPDX-License-Identifier: Apache-2.0
"""OS::HeatWorkflow::Workflow in a real Heat: one request, the API's order, and only what changed runs again."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client
from heat_workflow.shapes import Task
from tests.heat_engine.servers import servers_of

SERVERS = ("a", "b")


@pytest.fixture(scope="module")
def fleet(cloud: Any) -> Any:
    """Two servers that outlive the stacks of this module, by name."""
    with servers_of(cloud, SERVERS) as servers:
        yield servers


@pytest.fixture
def added(api: Client) -> Callable[[Stack], list[Task]]:
    """Every task of the stack's workflow resource named flow, oldest first."""

    def tasks(stack: Stack) -> list[Task]:
        return list(api.list_tasks(stack.resource("flow").physical_resource_id))

    return tasks


def template(tasks: dict[str, Any], outputs: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    flow = {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks, **properties}}
    shown = {name: {"value": value} for name, value in (outputs or {}).items()}
    return {"heat_template_version": "2021-04-16", "resources": {"flow": flow}, "outputs": shown}


def runs(tasks: list[Task]) -> list[tuple[str, str, str]]:
    return [(task["name"], task["action"], task["state"]) for task in tasks]


def three(hot: Any, fleet: Any, version: str = "9", port: str = "1") -> dict[str, Any]:
    """A database, applications on two servers that use its url, and a check of all of them; and one by itself."""
    db = hot.script(f"printf {version} > $heat_outputs_path.url", "url")
    app = hot.script("printf $db:$port@$deploy_server_id > $heat_outputs_path.at", "at", db="String", port="String")
    check = hot.script('printf %s "$all" > $heat_outputs_path.seen', "seen", all="Json")
    return {
        "db": {"definition": db, "server": fleet["a"]},
        "app": {
            "definition": app,
            "servers": fleet,
            "input_values": {"db": {"get_output": ["db", "url"]}, "port": port},
        },
        "check": {"definition": check, "server": fleet["b"], "input_values": {"all": {"get_output": ["app", "at"]}}},
        "alone": {"definition": hot.script("true"), "server": fleet["a"], "requires": []},
    }


def test_values_flow_and_outputs_come_back(hot: Any, stacks: Stacks, fleet: Any, api: Client) -> None:
    names = ("outputs", "tasks", "workflow_id", "graph")
    outputs: dict[str, Any] = {name: {"get_attr": ["flow", name]} for name in names}
    outputs["one"] = {"get_attr": ["flow", "outputs", "app", "at", "b"]}
    stack = stacks.create("flow", template(three(hot, fleet), outputs, name="the flow"))
    said = stack.outputs
    at = {name: f"9:1@{fleet[name]}" for name in SERVERS}
    seen = "{" + ", ".join(f'"{name}": "{at[name]}"' for name in SERVERS) + "}"
    assert said["outputs"] == {"db": {"url": "9"}, "app": {"at": at}, "check": {"seen": seen}, "alone": {}}
    assert said["one"] == at["b"]
    assert said["tasks"] == {
        **dict.fromkeys(("db", "check", "alone"), "succeeded"),
        "app": dict.fromkeys(SERVERS, "succeeded"),
    }
    assert said["workflow_id"] == stack.resource("flow").physical_resource_id
    assert {node["name"] for node in said["graph"]["nodes"]} == {"db", "app/a", "app/b", "check", "alone"}
    workflow = api.get_workflow(said["workflow_id"])
    assert (workflow["name"], workflow["state"], workflow["sealed"]) == ("the flow", "succeeded", True)


def test_an_update_runs_what_changed_and_what_depends_on_it(hot: Any, stacks: Stacks, fleet: Any, added: Any) -> None:
    stack = stacks.create("change", template(three(hot, fleet)))
    assert len(added(stack)) == 5
    stack.update(template(three(hot, fleet)))
    assert len(added(stack)) == 5, "nothing changed"
    stack.update(template(three(hot, fleet, port="2")))
    new = [("app/a", "UPDATE", "succeeded"), ("app/b", "UPDATE", "succeeded"), ("check", "UPDATE", "succeeded")]
    assert sorted(runs(added(stack))[5:]) == new
    stack.update(template(three(hot, fleet, version="10", port="2")))
    assert sorted(runs(added(stack))[8:]) == [*new, ("db", "UPDATE", "succeeded")]
    smaller = three(hot, {"a": fleet["a"], "b": fleet["b"]}, version="10", port="2")
    smaller["app"]["servers"] = {"a": fleet["a"]}
    stack.update(template(smaller, {"all": {"get_attr": ["flow", "outputs", "check", "seen"]}}))
    assert runs(added(stack))[12:] == [("check", "UPDATE", "succeeded")], "a server less changes what check is given"
    assert stack.outputs["all"] == '{"a": "10:2@' + fleet["a"] + '"}'


def test_a_failure_says_which_where_why_and_what_was_not_run(
    hot: Any, stacks: Stacks, fleet: Any, added: Any, tmp_path: pathlib.Path
) -> None:
    tasks = {
        "first": {"definition": hot.script("true"), "server": fleet["a"]},
        "bad": {
            "definition": hot.script(f"test -e {tmp_path}/luck || {{ echo too bad >&2; exit 4; }}"),
            "server": fleet["b"],
            "requires": ["first"],
        },
        "last": {"definition": hot.script("true"), "server": fleet["a"], "requires": ["bad"]},
    }
    stack = stacks.create("fails", template(tasks), wait=False)
    with pytest.raises(DevCloudError):
        stack.wait()
    expected = f"workflow flow: task bad on server {fleet['b']} failed with exit code 4: too bad; "
    expected += "not run because of that: last"
    assert expected in stack.reason
    (tmp_path / "luck").touch()
    stack.update(template(tasks))
    assert runs(added(stack))[3:] == [("bad", "CREATE", "succeeded"), ("last", "CREATE", "succeeded")]


def test_on_failure_undo_takes_back_what_succeeded(
    hot: Any, stacks: Stacks, fleet: Any, tmp_path: pathlib.Path, api: Client
) -> None:
    def tasks(code: int) -> dict[str, Any]:
        undo = hot.script(f"echo undo $made >> {tmp_path}/done", made="String")
        make = hot.script("printf it > $heat_outputs_path.made", "made")
        return {
            "make": {"definition": make, "server": fleet["a"], "undo": undo},
            "bad": {"definition": hot.script(f"exit {code}"), "server": fleet["b"], "requires": ["make"]},
        }

    stack = stacks.create("undo", template(tasks(1), on_failure="undo"), wait=False)
    with pytest.raises(DevCloudError, match=r"bad on server .* exit code 1.*undone: make"):
        stack.wait()
    assert (tmp_path / "done").read_text() == "undo it\n"
    assert api.get_workflow(stack.resource("flow").physical_resource_id)["state"] == "undone"
    stack.update(template(tasks(0), on_failure="undo"))
    stack.delete()
    assert (tmp_path / "done").read_text() == "undo it\nundo it\n", "the server stays, what was made goes"


def test_a_rollback_takes_back_the_new_and_runs_the_old(
    hot: Any, stacks: Stacks, fleet: Any, tmp_path: pathlib.Path
) -> None:
    def tasks(release: str, *more: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("one", "two", *more):
            say = hot.script(f"echo {name} {release} >> {tmp_path}/done; test {name}{release} != two2")
            undo = hot.script(f"echo undo {name} {release} >> {tmp_path}/done")
            requires = [list(found)[-1]] if found else []
            found[name] = {"definition": say, "server": fleet["a"], "undo": undo, "requires": requires}
        return found

    stack = stacks.create("back", template(tasks("1")), disable_rollback=False)
    stack.update(template(tasks("2", "three")), wait=False, disable_rollback=False)
    stack.wait_until(lambda: stack.status == "ROLLBACK_COMPLETE")
    assert (tmp_path / "done").read_text().splitlines() == [
        "one 1",
        "two 1",
        "one 2",
        "two 2",
        "undo one 2",
        "one 1",
        "two 1",
    ]


def test_delete_in_the_actions_runs_in_reverse_order_with_the_values_of_before(
    hot: Any, stacks: Stacks, fleet: Any, tmp_path: pathlib.Path
) -> None:
    say = f"echo $deploy_action $deploy_server_id $x >> {tmp_path}/done; printf y > $heat_outputs_path.y"
    tasks = {
        "one": {"definition": hot.script(say, "y"), "server": fleet["a"]},
        "two": {
            "definition": hot.script(say, "y", x="String"),
            "server": fleet["b"],
            "input_values": {"x": {"get_output": ["one", "y"]}},
        },
    }
    stack = stacks.create("reverse", template(tasks, actions=["CREATE", "SUSPEND", "DELETE"]))
    stacks.heat.actions.suspend(stack.id)
    stack.wait_until(lambda: stack.status == "SUSPEND_COMPLETE")
    stack.delete()
    words = [line.split() for line in (tmp_path / "done").read_text().splitlines()]
    expected = [["CREATE", fleet["a"]], ["CREATE", fleet["b"], "y"]]
    expected += [
        [action, server, *more]
        for action in ("SUSPEND", "DELETE")
        for server, *more in ((fleet["b"], "y"), (fleet["a"],))
    ]
    assert words == expected


def test_deleting_ends_what_runs(hot: Any, stacks: Stacks, fleet: Any, tmp_path: pathlib.Path, api: Client) -> None:
    tasks = {
        "long": {"definition": hot.script(f"echo $$ > {tmp_path}/pid; exec sleep 600"), "server": fleet["a"]},
        "then": {"definition": hot.script("true"), "server": fleet["a"], "requires": ["long"]},
    }
    stack = stacks.create("long", template(tasks), wait=False)
    stack.wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    workflow_id = stack.resource("flow").physical_resource_id
    stack.delete()
    assert not pathlib.Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()
    assert {(task["state"], task["detached"]) for task in api.list_tasks(workflow_id)} == {("cancelled", True)}


def test_task_resources_join_an_open_workflow(hot: Any, stacks: Stacks, fleet: Any, added: Any, api: Client) -> None:
    source = template({"one": {"definition": hot.script("true"), "server": fleet["a"]}}, sealed=False)
    joined = {"workflow": {"get_resource": "flow"}, "definition": hot.script("true"), "server": fleet["b"]}
    source["resources"]["guest"] = {"type": "OS::HeatWorkflow::Task", "properties": joined}
    stack = stacks.create("open", source)
    assert sorted(task["name"] for task in added(stack)) == ["guest", "one"]
    workflow_id = stack.resource("flow").physical_resource_id
    stack.delete()
    assert api.get_workflow(workflow_id)["state"] == "closed"


def test_a_config_by_id_and_values_for_all_who_declare_them(hot: Any, stacks: Stacks, fleet: Any) -> None:
    config = hot.config("printf $who > $heat_outputs_path.said", "said", who="String")
    tasks = {
        "one": {"config": {"get_resource": "config"}, "server": fleet["a"]},
        "two": {"config": {"get_resource": "config"}, "server": fleet["a"], "input_values": {"who": "me"}},
        "three": {"definition": hot.script("printf x$who > $heat_outputs_path.said", "said"), "server": fleet["a"]},
    }
    source = template(tasks, {"said": {"get_attr": ["flow", "outputs"]}}, input_values={"who": "all"})
    source["resources"]["config"] = config
    stack = stacks.create("shared", source)
    assert stack.outputs["said"] == {"one": {"said": "all"}, "two": {"said": "me"}, "three": {"said": "x"}}


DEFINITION = {"group": "script", "config": "true", "outputs": [{"name": "y"}]}
HERE = {"definition": DEFINITION, "server": "s"}


@pytest.mark.parametrize(
    ("tasks", "properties", "words"),
    [
        (
            {"a": {**HERE, "requires": ["b"]}, "b": {**HERE, "requires": ["a"]}},
            {},
            r"in a circle: (a -> b -> a|b -> a -> b)",
        ),
        ({"a": {**HERE, "requires": ["x"]}}, {}, "task a requires x, which is no task of this workflow"),
        ({"a": {**HERE, "input_values": {"i": {"get_output": ["x", "y"]}}}}, {}, "get_output of x, which is no task"),
        ({"a": HERE, "b": {**HERE, "input_values": {"i": {"get_output": ["a", "z"]}}}}, {}, "task a has no output z"),
        ({"a": {**HERE, "input_values": {"i": {"get_output": "a"}}}}, {}, "takes .task, output., two names"),
        ({"a": {"server": "s"}}, {}, "task a: give either 'config' or 'definition'"),
        ({"a": {"definition": DEFINITION}}, {}, "task a: say where it runs"),
        (
            {"a": {**HERE, "definition": {"group": "../x", "config": ""}}},
            {},
            "task a: config group .* is no group name",
        ),
        ({"a": {**HERE, "colour": "red"}}, {}, "task a: .*colour"),
        ({"a": {**HERE, "max_attempts": 0}}, {}, "task a: .*out of range"),
        ({"a": {**HERE, "batch": {"max_size": 2}}}, {}, "'batch' takes servers in turn"),
        ({"a": {"config": "no-such-id", "server": "s"}}, {}, "no software config with id no-such-id"),
        ({"a": HERE}, {"sealed": False, "on_failure": "undo"}, "on_failure: undo needs a sealed workflow"),
    ],
)
def test_what_could_never_run_is_refused_before_anything_is_created(
    stacks: Stacks, tasks: dict[str, Any], properties: dict[str, Any], words: str
) -> None:
    with pytest.raises(Exception, match=words):
        stacks.create("never", template(tasks, **properties))


def test_no_tasks_are_no_work(stacks: Stacks) -> None:
    stack = stacks.create("nothing", template({}, {"outputs": {"get_attr": ["flow", "outputs"]}}))
    assert stack.outputs == {"outputs": {}}
    stack.delete()
