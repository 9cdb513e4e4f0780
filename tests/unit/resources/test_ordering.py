# SPDX-License-Identifier: Apache-2.0
"""Which tasks are of one server, and follow each other by name, before any server is there."""

from __future__ import annotations

from typing import Any

import pytest
from heat.engine import stack, template

from heat_workflow.plan.checking import Offline
from heat_workflow.plan.hot import start_heat
from heat_workflow.resources.ordering import find_predecessor


def task(server: Any, name: Any) -> dict[str, Any]:
    own = {"server": server, "name": name, "definition": {"group": "script", "config": "true"}}
    return {"type": "OS::HeatWorkflow::Task", "properties": own}


def before(name: str, **tasks: Any) -> str | None:
    around = {
        "group": {
            "type": "OS::Heat::ResourceGroup",
            "properties": {"count": 2, "resource_def": {"type": "OS::Heat::DeployedServer"}},
        },
        "server": {"type": "OS::HeatWorkflow::DeployedServer"},
        "value": {"type": "OS::Heat::Value", "properties": {"value": "a"}},
    }
    source = {"heat_template_version": "2021-04-16", "resources": {**around, **tasks}}
    start_heat()
    made = stack.Stack(Offline(project_id="p"), "s", template.Template(source), convergence=True)
    found = find_predecessor(made[name])
    return None if found is None else str(found.name)


MEMBER: Any = {"get_attr": ["group", "resource.0"]}
OTHER: Any = {"get_attr": ["group", "resource.1"]}


@pytest.mark.parametrize(
    ("first", "second", "follows"),
    [
        ("s", "s", True),
        ("s", "t", False),
        ({"get_resource": "server"}, {"get_resource": "server"}, True),
        ({"get_resource": "server"}, "s", False),
        (MEMBER, MEMBER, True),
        (MEMBER, OTHER, False),
        ({"list_join": ["", ["s"]]}, "s", True),
        ({"list_join": ["", [1]]}, "s", False),
    ],
)
def test_one_server_is_told_from_another(first: Any, second: Any, follows: bool) -> None:
    assert before("two", one=task(first, "1"), two=task(second, "2")) == ("one" if follows else None)


def test_a_name_that_is_not_known_yet_orders_nothing() -> None:
    late = {"get_attr": ["value", "value"]}
    assert before("two", one=task("s", "1"), two=task("s", late)) is None
    assert before("three", one=task("s", "1"), two=task("s", late), three=task("s", "3")) == "one"
