# SPDX-License-Identifier: Apache-2.0
"""Outputs as the types that the config declares; what does not fit fails the task in words."""

from __future__ import annotations

from typing import Any

import pytest

from guest_agent.output_types import as_declared
from guest_agent.task import Output


@pytest.mark.parametrize(
    ("kind", "value", "typed"),
    [
        ("Number", "42", 42),
        ("Number", " 4.5 ", 4.5),
        ("Number", 7, 7),
        ("Boolean", "True", True),
        ("Boolean", "off", False),
        ("CommaDelimitedList", "a, b", ["a", "b"]),
        ("CommaDelimitedList", "", []),
        ("CommaDelimitedList", ["a"], ["a"]),
        ("Json", '{"a": [1]}', {"a": [1]}),
        ("Json", {"a": 1}, {"a": 1}),
        ("String", "42", "42"),
        ("String", {"left": "as it came"}, {"left": "as it came"}),
    ],
)
def test_a_value_becomes_what_is_declared(kind: str, value: Any, typed: Any) -> None:
    assert as_declared([Output("x", type=kind)], {"x": value}) == ({"x": typed}, [])


@pytest.mark.parametrize(
    ("kind", "value"), [("Number", "many"), ("Number", "nan"), ("Number", True), ("Boolean", "maybe"), ("Json", "{")]
)
def test_a_value_of_another_type_is_named_and_stays(kind: str, value: Any) -> None:
    typed, problems = as_declared([Output("x", type=kind)], {"x": value})
    assert typed == {"x": value}
    assert problems == [f"output x is declared as {kind}: {value!r} is none"]


def test_a_hidden_value_is_not_in_the_words() -> None:
    assert "secret" not in as_declared([Output("x", hidden=True, type="Number")], {"x": "secret"})[1][0]


def test_what_is_missing_is_no_mistake() -> None:
    assert as_declared([Output("x", type="Number")], {}) == ({}, [])
