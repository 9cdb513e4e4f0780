# SPDX-License-Identifier: Apache-2.0
"""Which undos wait for which: examples, the order that follows held against all paths, and how much it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heat_workflow.taskqueue.undo_order import Step, steps

Edges = Iterable[tuple[str, str]]  # (task, what it requires)


def built_on(edges: Edges) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for task, required in edges:
        found.setdefault(required, set()).add(task)
    return found


def closure(after: Mapping[str, Iterable[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        fresh = set(after.get(ahead.pop(), ())) - seen
        seen |= fresh
        ahead += fresh
    return seen


def said(found: Sequence[Step]) -> dict[str, list[str]]:
    return {("|" if step.barrier else "") + step.task_id: sorted(step.after) for step in found}


CHAIN = [("b", "a"), ("c", "b"), ("d", "c")]
DIAMOND = [("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")]
HUB = [(f"y{n}", "hub") for n in range(3)] + [("hub", f"x{n}") for n in range(3)]


@pytest.mark.parametrize(
    ("tasks", "edges", "chosen", "wanted"),
    [
        ("a b c d", CHAIN, "a b c d", {"d": [], "c": ["d"], "b": ["c"], "a": ["b"]}),
        ("a b c d", CHAIN, "a d", {"d": [], "a": ["d"]}),  # through two tasks without an undo
        ("a b c d", DIAMOND, "a b c d", {"d": [], "c": ["d"], "b": ["d"], "a": ["b", "c"]}),
        ("a b c d", DIAMOND, "a d", {"d": [], "a": ["d"]}),
        ("a b c d", DIAMOND, "b c", {"c": [], "b": []}),
        ("a b c", [], "a c", {"c": [], "a": []}),
        (
            "x0 x1 x2 hub y0 y1 y2",
            HUB,
            "x0 x1 x2 y0 y1 y2",
            {"y2": [], "y1": [], "y0": [], "|hub": ["y0", "y1", "y2"], "x2": ["hub"], "x1": ["hub"], "x0": ["hub"]},
        ),
        ("a b", [("a", "b"), ("b", "a")], "a b", {"b": [], "a": ["b"]}),  # told by Heat, in a circle
        ("a", [("gone", "a")], "a", {"a": []}),
    ],
)
def test_each_undo_waits_for_those_next_to_it(
    tasks: str, edges: list[tuple[str, str]], chosen: str, wanted: dict[str, list[str]]
) -> None:
    assert said(steps(tasks.split(), built_on(edges), set(chosen.split()))) == wanted


def test_undos_under_way_are_waited_for_and_hide_nothing() -> None:
    found = steps(["a", "b", "c", "d"], built_on(CHAIN), {"a", "d"}, ["b"])
    assert said(found) == {"d": [], "a": ["b", "d"]}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], set[tuple[str, str]], set[str]]:
    tasks = [f"t{n}" for n in range(draw(st.integers(1, 14)))]
    some = st.sampled_from(tasks)
    edges = draw(st.sets(st.tuples(some, some).filter(lambda edge: edge[0] != edge[1]), max_size=40))
    if draw(st.booleans()):  # as what is enforced: no circles
        edges = {(max(edge, key=tasks.index), min(edge, key=tasks.index)) for edge in edges}
    return tasks, edges, draw(st.sets(some))


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_the_order_is_that_of_all_paths(graph: tuple[list[str], set[tuple[str, str]], set[str]]) -> None:
    tasks, edges, chosen = graph
    dependants = built_on(edges)
    found = steps(tasks, dependants, chosen)
    place = {step.task_id: n for n, step in enumerate(found)}
    assert {step.task_id for step in found if not step.barrier} == chosen
    assert all(place[other] < place[step.task_id] for step in found for other in step.after)
    waits_for = {step.task_id: step.after for step in found}
    for task in chosen:
        built = closure(dependants, task)
        circle = {other for other in built if task in closure(dependants, other)}
        follows = closure(waits_for, task) & chosen
        assert follows - circle == (built - circle) & chosen
        # In a circle each waits for those that were added after it, and for nobody outside of what was built on it.
        assert follows & circle == {other for other in circle & chosen if tasks.index(other) > tasks.index(task)}
    assert sum(len(step.after) for step in found) <= len(edges) + 2 * len(tasks)


def fan(wide: int, middle: str) -> list[tuple[str, str]]:
    return [(middle, f"a{n}") for n in range(wide)] + [(f"z{n}", middle) for n in range(wide)]


WIDE = 3000
SHAPES = {
    "chain": [(f"t{n + 1}", f"t{n}") for n in range(WIDE)],
    "fan": fan(WIDE, "hub"),
    "comb": [(f"t{n + 1}", f"t{n}") for n in range(WIDE)] + [(f"leaf{n}", f"t{n}") for n in range(WIDE)],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("every", ["all", "ends", "half"])
def test_what_it_takes_grows_with_the_edges(shape: str, every: str) -> None:
    edges = SHAPES[shape]
    tasks = sorted({task for edge in edges for task in edge}, key=lambda task: (len(task), task))
    ends = {task for task in tasks if not task.startswith("t") or task == "t0"} - {"hub"}
    chosen = {"all": set(tasks), "ends": ends, "half": set(tasks[::2])}[every]
    began = time.process_time()
    found = steps(tasks, built_on(edges), chosen)
    assert time.process_time() - began < 3  # the square takes a minute
    assert sum(len(step.after) for step in found) <= len(edges) + len(tasks)
