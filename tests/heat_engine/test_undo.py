# SPDX-License-Identifier: Apache-2.0
"""Undo in a real Heat: when a task is taken back, with which values, in which order, and when it is not."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client
from heat_workflow.shapes import Task
from tests.heat_engine.servers import servers_of

Tasks = Callable[[Stack], list[Task]]


class Diary:
    """What scripts said, line by line, in the order in which they ran."""

    def __init__(self, path: pathlib.Path, hot: Any) -> None:
        self.path = path
        self._hot = hot

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def script(self, text: str, *outputs: str, **inputs: str) -> dict[str, Any]:
        """A definition that writes the text down; what else it does may follow after a semicolon."""
        said, _, rest = text.partition(";")
        made: dict[str, Any] = self._hot.script(f"echo {said} >> {self.path}\n{rest.strip()}", *outputs, **inputs)
        return made

    def task(self, name: str, undo: str | None = None, **properties: Any) -> dict[str, Any]:
        """A task that writes down its name, and its undo's."""
        taking_back = {"undo": self.script(undo or f"undo {name}")}
        made: dict[str, Any] = self._hot.task(self.script(name), **{**taking_back, **properties})
        return made


@pytest.fixture
def diary(tmp_path: pathlib.Path, hot: Any) -> Diary:
    return Diary(tmp_path / "diary", hot)


def until_rolled_back(stack: Stack) -> None:
    stack.wait_until(lambda: stack.status.startswith("ROLLBACK") and not stack.status.endswith("PROGRESS"))
    assert stack.status in ("ROLLBACK_COMPLETE", "DELETE_COMPLETE"), stack.failures()


def reasons(stacks: Stacks, stack: Stack, name: str) -> list[str]:
    events = stacks.heat.events.list(stack.id)
    return [event.resource_status_reason for event in events if event.resource_name == name]


def failing(hot: Any, **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = hot.task(hot.script("exit 1"), **properties)
    return made


def test_a_create_that_is_rolled_back_is_undone_in_reverse_order_and_a_failed_undo_stops_nothing(
    hot: Any, stacks: Stacks, diary: Diary
) -> None:
    app = diary.task("app", undo="undo app; exit 3", input_values={"x": {"get_attr": ["db", "deploy_stdout"]}})
    last = failing(hot, input_values={"x": {"get_attr": ["app", "deploy_stdout"]}})
    template = hot.template(db=diary.task("db"), app=app, last=last)
    stack = stacks.create("fell", template, wait=False, disable_rollback=False)
    until_rolled_back(stack)
    assert diary.lines == ["db", "app", "undo app", "undo db"]
    assert any("undo of app" in reason and "exit code 3" in reason for reason in reasons(stacks, stack, "app"))


def test_a_task_that_leaves_a_living_server_is_undone_with_its_own_inputs_and_outputs(
    hot: Any, stacks: Stacks, diary: Diary, tasks_of: Tasks
) -> None:
    def template(value: str, **more: Any) -> dict[str, Any]:
        does = diary.script('do $x; printf "made-$x" > $heat_outputs_path.made', "made", x="String")
        say = hot.task(does, input_values={"x": value}, undo=diary.script("undo $x $made"))
        made: dict[str, Any] = hot.template(**({"say": say} if value else {}), **more)
        return made

    stack = stacks.create("leaves", template("1"))
    stack.update(template("2"))
    assert diary.lines == ["do 1", "do 2"], "an update in place undoes nothing"
    stack.update(template(""))
    assert diary.lines == ["do 1", "do 2", "undo 2 made-2"]
    assert [task["state"] for task in tasks_of(stack)] == ["succeeded", "undone", "succeeded"]


def test_on_delete_of_the_stack_a_task_is_undone_only_if_its_server_stays(
    hot: Any, stacks: Stacks, diary: Diary
) -> None:
    first = stacks.create("owner", hot.template(own=diary.task("own")))
    there = first.resource("machine").physical_resource_id
    guest = hot.template(visiting=diary.task("visiting", server=there))
    del guest["resources"]["machine"]
    second = stacks.create("visitor", guest)
    second.delete()
    assert diary.lines == ["own", "visiting", "undo visiting"]
    first.delete()
    assert diary.lines == ["own", "visiting", "undo visiting"]


def test_delete_among_the_actions_runs_instead_of_the_undo(hot: Any, stacks: Stacks, diary: Diary) -> None:
    say = diary.task("$deploy_action", undo="undone", actions=["CREATE", "DELETE"])
    stack = stacks.create("instead", hot.template(say=say))
    stack.update(hot.template())
    assert diary.lines == ["CREATE", "DELETE"]


def test_rolling_back_an_update_in_place_undoes_it_before_the_old_definition_runs_again(
    hot: Any, stacks: Stacks, diary: Diary
) -> None:
    stack = stacks.create("inplace", hot.template(say=diary.task("old")))
    bad = failing(hot, input_values={"x": {"get_attr": ["say", "deploy_stdout"]}})
    stack.update(hot.template(say=diary.task("new"), bad=bad), wait=False, disable_rollback=False)
    until_rolled_back(stack)
    assert diary.lines == ["old", "new", "undo new", "old"]


def replaced_by_key(hot: Any, diary: Diary, key: str, **more: Any) -> dict[str, Any]:
    """A task that another value of its key replaces."""
    definition = diary.script("do $key", key="String")
    definition["inputs"][0]["replace_on_change"] = True
    say = hot.task(definition, input_values={"key": key}, undo=diary.script("undo $key"))
    made: dict[str, Any] = hot.template(say=say, **more)
    return made


def test_a_replacement_on_the_same_server_has_the_old_task_undone_first_and_once(
    hot: Any, stacks: Stacks, diary: Diary
) -> None:
    stack = stacks.create("replaced", replaced_by_key(hot, diary, "a"))
    stack.update(replaced_by_key(hot, diary, "b"))
    assert diary.lines == ["do a", "undo a", "do b"]


def test_rolling_back_a_replacement_undoes_it_and_runs_the_old_task_again(
    hot: Any, stacks: Stacks, diary: Diary
) -> None:
    def template(key: str, outcome: str) -> dict[str, Any]:
        after = hot.task(hot.script(outcome), input_values={"x": {"get_attr": ["say", "deploy_stdout"]}})
        return replaced_by_key(hot, diary, key, after=after)

    stack = stacks.create("returned", template("a", "true"))
    before = stack.resource("say").physical_resource_id
    # Heat keeps the replaced resource until what depends on it is updated: it is the one that comes back.
    stack.update(template("b", "exit 1"), wait=False, disable_rollback=False)
    until_rolled_back(stack)
    assert diary.lines == ["do a", "undo a", "do b", "undo b", "do a"]
    assert stack.resource("say").physical_resource_id == before


def test_an_undo_that_no_agent_takes_is_skipped_and_an_event_says_so(hot: Any, stacks: Stacks, api: Client) -> None:
    say = hot.task(hot.script("true"), undo=hot.script("true"), pickup_timeout=2)
    stack = stacks.create("nobody", hot.template(say=say))
    api.drain_agent(stack.resource("machine").physical_resource_id)
    stack.update(hot.template())
    assert any(
        reason.startswith("undo of say was skipped: no agent picked it up") for reason in reasons(stacks, stack, "say")
    )


def test_the_order_of_undo_holds_where_two_agents_could_break_it(
    hot: Any, stacks: Stacks, diary: Diary, cloud: Any
) -> None:
    """Each undo takes its time, and the next one is another agent's: it would be first if nobody held it back."""

    def script(name: str) -> dict[str, Any]:
        return diary.script(f"undo {name}; sleep 0.5; echo done {name} >> {diary.path}")

    def task(name: str, server: str, after: str | None) -> dict[str, Any]:
        made = diary.task(
            name, server=server, input_values={"x": {"get_attr": [after, "deploy_stdout"]}} if after else {}
        )
        made["properties"]["undo"] = script(name)
        return made

    def group(name: str, after: str | None) -> dict[str, Any]:
        asked = {
            "definition": hot.script("true"),
            "servers": dict(zip("ab", servers, strict=True)),
            "undo": script(name),
        }
        made = {"type": "OS::HeatWorkflow::TaskGroup", "properties": asked}
        return {**made, "depends_on": after} if after else made

    def inline(name: str, server: str, after: str | None) -> dict[str, Any]:
        asked = {"definition": hot.script("true"), "server": server, "undo": script(name)}
        return {**asked, "requires": [after] if after else []}

    def chain(kind: Any, names: list[str], places: list[str]) -> dict[str, Any]:
        before = [None, *names]
        return {name: kind(name, place, after) for name, place, after in zip(names, places, before)}

    with servers_of(cloud, ("a", "b")) as fleet:
        servers = [fleet["a"], fleet["b"]]
        turns = [fleet["a"], fleet["b"], fleet["a"], fleet["b"]]
        flow = {"tasks": chain(inline, ["i1", "i2", "i3", "i4"], turns)}
        resources = {
            **chain(task, ["t1", "t2", "t3", "t4"], turns),
            "g1": group("g1", None),
            "g2": group("g2", "g1"),
            "flow": {"type": "OS::HeatWorkflow::Workflow", "properties": flow},
        }
        bad = {**inline("bad", fleet["a"], "i4"), "definition": hot.script("exit 1")}
        falls = {"tasks": {**flow["tasks"], "bad": bad}, "on_failure": "undo"}
        source = hot.template(**resources)
        del source["resources"]["machine"]
        stack = stacks.create("order", source)
        stack.update({**source, "resources": {"more": {"type": "OS::Heat::None"}}})
        lines = [line for line in diary.lines if line.startswith(("undo", "done"))]
        assert pairs(lines, "t") == ["t4", "t3", "t2", "t1"]
        assert pairs(lines, "i") == ["i4", "i3", "i2", "i1"]
        groups = [line for line in lines if line.split()[1][0] == "g"]
        assert [line.split()[1] for line in groups] == ["g2"] * 4 + ["g1"] * 4, "all of one before any of the other"
        diary.path.unlink()
        failing = {"type": "OS::HeatWorkflow::Workflow", "properties": falls}
        stack.update({**source, "resources": {"flow": failing}}, wait=False)
        stack.wait_until(lambda: stack.status == "UPDATE_FAILED")
        assert pairs(diary.lines, "i") == ["i4", "i3", "i2", "i1"]


def pairs(lines: list[str], letter: str) -> list[str]:
    """Who undid, in order; each was done before the next began."""
    words = [line.split() for line in lines if line.split()[1][0] == letter]
    assert [word for word, _ in words] == ["undo", "done"] * (len(words) // 2)
    return [name for word, name in words if word == "done"]


def test_an_undo_in_a_workflow_gets_the_outputs_that_its_task_was_given(
    hot: Any, stacks: Stacks, diary: Diary, cloud: Any
) -> None:
    with servers_of(cloud, ("a",)) as fleet:
        one = {"definition": diary.script("one; printf made > $heat_outputs_path.y", "y"), "server": fleet["a"]}
        two = {
            "definition": diary.script("two $x", x="String"),
            "server": fleet["a"],
            "input_values": {"x": {"get_output": ["one", "y"]}},
            "undo": diary.script("undo $x"),
        }
        flow = {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": {"one": one, "two": two}}}
        stack = stacks.create("given", {"heat_template_version": "2021-04-16", "resources": {"flow": flow}})
        stack.delete()
    assert diary.lines == ["one", "two made", "undo made"]
