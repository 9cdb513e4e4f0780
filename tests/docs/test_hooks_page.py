# SPDX-License-Identifier: Apache-2.0
"""The page on hooks: what it says a hook gets is what a hook gets."""

from __future__ import annotations

import re

from guest_agent.hooks import BUILT_IN, ansible, environment, puppet
from guest_agent.hooks.contract import Place
from guest_agent.order import BOOTS_MOST
from guest_agent.task import Task, read_task
from tests.docs.pages import ROOT, literals

PAGE = ROOT / "doc" / "source" / "user" / "hooks.rst"
WORDS = set(literals(PAGE))
OTHER = {"HW_RESUME", "HW_INPUT_<name>", "HW_*"}  # of a second start, of inputs, a pattern


def task() -> Task:
    some_id = "00000000-0000-4000-8000-000000000000"
    wire = {"id": some_id, "workflow_id": some_id, "name": "n", "action": "CREATE", "attempt": 1, "claim_id": some_id}
    return read_task({**wire, "definition": {"group": "script", "config": "true"}, "run_as": "root", "server": "s"})


def test_every_variable_is_on_the_page_and_no_other() -> None:
    given = set(environment.base_environment(task(), Place("/run/x")))
    text = PAGE.read_text()
    rows = re.findall(r"\* - (``.*``)\n", text[text.index("* - Variable") : text.index("Heat's derived inputs")])
    assert {name for row in rows for name in re.findall(r"``(\w+)``", row)} == given | {"HW_RESUME"}
    assert {word for word in WORDS if word.startswith("HW_") and "=" not in word} <= given | OTHER


def test_every_name_that_steers_a_hook_is_on_the_page() -> None:
    assert set(environment.STEERING) <= WORDS


def test_every_hook_and_each_of_its_options_is_on_the_page() -> None:
    assert set(BUILT_IN) <= WORDS
    for module in (ansible, puppet):
        named = (module.__doc__ or "").partition("ptions:")[2]
        options = set(re.findall(r"``([a-z_]+)``", named.partition(".")[0]))
        assert options
        assert options <= WORDS


def test_a_hook_may_ask_for_as_many_reboots_as_the_page_says() -> None:
    assert BOOTS_MOST == 10
    assert "ten times at most" in PAGE.read_text()
