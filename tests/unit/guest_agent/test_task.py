# SPDX-License-Identifier: Apache-2.0
"""Claimed tasks: how the wire is read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from guest_agent.errors import AgentError
from guest_agent.task import Attempt, read_attempt, read_task, resolve_inputs


def test_defaults_are_overlaid_by_values_and_undeclared_ones_are_strings() -> None:
    declared: list[dict[str, Any]] = [
        {"name": "a", "type": "Number", "default": 1},
        {"name": "b", "default": "x"},
        {"name": "c"},
    ]
    found = {item.name: item for item in resolve_inputs(declared, {"a": 2, "extra": True}, frozenset({"b"}))}
    assert [found[name].value for name in ("a", "b", "c", "extra")] == [2, "x", None, True]
    assert (found["a"].type, found["extra"].type) == ("Number", "String")
    assert (found["b"].hidden, found["a"].hidden) == (True, False)


def test_an_attempt_is_found_again_from_its_name() -> None:
    attempt = Attempt(str(uuid.uuid4()), 12, str(uuid.uuid4()))
    assert Attempt.from_name(attempt.name) == attempt
    assert Attempt.from_name("last") is None
    assert attempt.claim_id.replace("-", "") not in attempt.run_name


def test_values_of_inputs_do_not_show_in_the_repr(make_wire_task: Callable[..., dict[str, Any]]) -> None:
    task = read_task(make_wire_task("echo canary", input_values={"a": "canary"}))
    assert "canary" not in repr(task)


def test_a_task_without_a_readable_id_is_refused(make_wire_task: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(AgentError):
        read_attempt(make_wire_task(id="../../etc"))
    with pytest.raises(AgentError):
        read_task({**make_wire_task(), "definition": None})
