# SPDX-License-Identifier: Apache-2.0
"""Edges between inline tasks: where they come from, what is wrong with them, what remains when some have no work."""

from __future__ import annotations

from typing import Any

from heat_workflow.resources import inline

TASKS: dict[str, Any] = {
    "a": {},
    "b": {"requires": ["a"]},
    "c": {"input_values": {"x": {"get_output": ["b", "y"]}, "plain": {"get_output": 1, "more": 2}}},
    "d": {"requires": ["a", "c"]},
}
EDGES = {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]}


def test_edges_come_from_requires_and_from_inputs() -> None:
    assert inline.edges(TASKS) == EDGES


def test_all_that_depends_on_a_task_is_found() -> None:
    assert inline.dependants(TASKS, {"b"}) == {"c", "d"}
    assert inline.dependants(TASKS, {"d"}) == set()


def test_a_task_without_work_is_bridged() -> None:
    assert inline.bridged(EDGES, {"a", "d"}) == {"a": [], "d": ["a"]}
    assert inline.bridged(EDGES, {"b", "d"}) == {"b": [], "d": ["b"]}


def test_a_ladder_of_many_steps_is_bridged_and_followed_in_time() -> None:
    """Two tasks on each step, both of which require both of the step before: there are 2 ** 400 ways through it."""
    ladder: dict[str, Any] = {"0a": {}, "0b": {}}
    for step in range(1, 400):
        before = [f"{step - 1}a", f"{step - 1}b"]
        ladder.update({f"{step}{side}": {"requires": before} for side in "ab"})
    ends = {"0a", "0b", "399a"}
    assert inline.bridged(inline.edges(ladder), ends) == {"0a": [], "0b": [], "399a": ["0a", "0b"]}
    assert len(inline.dependants(ladder, {"0a"})) == 798


def test_what_is_taken_down_goes_the_other_way_round() -> None:
    assert inline.turned(EDGES) == {"a": ["b", "d"], "b": ["c"], "c": ["d"], "d": []}


def test_a_circle_is_named_once_the_names_are_right() -> None:
    circle: dict[str, Any] = {"a": {"requires": ["b"]}, "b": {"requires": ["c"]}, "c": {"requires": ["a"]}}
    (said,) = inline.mistakes(circle, {})
    words = said.removeprefix("tasks require each other in a circle: ").split(" -> ")
    assert words[0] == words[-1]
    assert all(later in circle[earlier]["requires"] for earlier, later in zip(words, words[1:]))


def test_a_task_was_given_what_the_run_before_it_said() -> None:
    """Later runs hold the names by now, and the first one is detached."""

    def ran(moment: str, name: str, said: str, **more: Any) -> Any:
        made = {"id": moment + name, "name": name, "fanout": None, "action": "CREATE", "state": "succeeded"}
        return {**made, "created_at": moment, "outputs": {"y": said}, "input_values": {}, **more}

    values = {"x": {"get_output": ["a", "y"]}, "plain": "p", "by_id": {"get_output": ["some-id", "y"]}}
    reader = ran("1", "b", "", input_values=values)
    members = [ran("1", f"c/{one}", one, fanout="c") for one in "mn"]
    listed = [ran("1", "a", "first", detached=True), reader, *members, ran("2", "a", "second")]
    given = inline.Given(listed)
    assert given.outputs(reader) == {"x": "first", "by_id": values["by_id"]}
    later = ran("2", "d", "", input_values={"x": {"get_output": ["a", "y"]}, "all": {"get_output": ["c", "y"]}})
    assert given.outputs(later) == {"x": "second", "all": {"m": "m", "n": "n"}}
    assert given.outputs(None) == {}
