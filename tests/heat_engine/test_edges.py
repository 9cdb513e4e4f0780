# SPDX-License-Identifier: Apache-2.0
"""Edges: the words of the template that order two tasks are told to the API with each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devcloud.stacks import Stack, Stacks
from heat_workflow.shapes import Task


def test_every_way_to_refer_to_a_task_is_recorded_with_its_words(
    hot: Any, stacks: Stacks, tasks_of: Callable[[Stack], list[Task]]
) -> None:
    first = hot.script("printf 1 > $heat_outputs_path.one", "one")
    stack = stacks.create(
        "edges",
        hot.template(
            first=hot.task(first),
            value={"type": "OS::Heat::Value", "properties": {"value": {"get_attr": ["first", "one"]}}},
            text=hot.config("true") | {"depends_on": "first"},
            said=hot.task(hot.script("true")) | {"depends_on": "first"},
            read=hot.task(hot.script("true"), input_values={"x": {"get_attr": ["first", "outputs", "one"]}}),
            named=hot.task(hot.script("true"), input_values={"x": {"get_resource": "first"}}),
            through_value=hot.task(hot.script("true"), input_values={"x": {"get_attr": ["value", "value"]}}),
            through_config=hot.task("text"),
        ),
    )
    edges = {task["name"]: task["heat"]["edges"] for task in tasks_of(stack)}
    assert edges == {
        "first": [],
        "said": [{"from": "first", "how": "depends_on"}],
        "read": [{"from": "first", "how": "get_attr: first.outputs.one"}],
        "named": [{"from": "first", "how": "get_resource: first"}],
        "through_value": [{"from": "first", "how": "get_attr: first.one"}],
        "through_config": [{"from": "first", "how": "depends_on"}],
    }
