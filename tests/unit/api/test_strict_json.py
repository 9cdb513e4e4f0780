# SPDX-License-Identifier: Apache-2.0
"""Strict JSON: what is read, what is refused, and that reading it never fails in another way."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heat_workflow import errors
from heat_workflow.api import strict_json

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_json_is_read_as_python_reads_it(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert strict_json.loads(text.encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(errors.Malformed):
        strict_json.loads(body)


@given(TEXT, st.sampled_from(["\0", "\ud800", "\udfff"]), TEXT)
def test_what_no_store_can_keep_is_refused_wherever_it_stands(before: str, bad: str, after: str) -> None:
    text = before + bad + after
    for value in (text, [text], {"x": {text: 1}}, {"x": [{"y": text}]}):
        with pytest.raises(errors.Malformed):
            strict_json.loads(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b"\xff", "UTF-8"),
        (b"[1,]", "line 1 column"),
        (b'["\\ud800"]', "surrogate"),
        (b"[" * 33 + b"]" * 33, "32 levels"),
    ],
)
def test_a_refusal_says_what_is_wrong(body: bytes, word: str) -> None:
    with pytest.raises(errors.Malformed, match=word):
        strict_json.loads(body)


def test_thirty_two_levels_are_the_most() -> None:
    assert strict_json.loads(b"[" * 32 + b"]" * 32) is not None


def test_the_largest_numbers_are_read() -> None:
    assert strict_json.loads(b"[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]


def test_brackets_in_strings_do_not_nest() -> None:
    text = '[{"\\"' * 100
    assert strict_json.loads(json.dumps([text]).encode()) == [text]


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert strict_json.loads(b'"\\ud83d\\ude00"') == "\U0001f600"
