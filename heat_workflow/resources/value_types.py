# SPDX-License-Identifier: Apache-2.0
"""Value types: whether a value given in the template can be what the config declares its input to be."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from heat.engine import function

from heat_workflow.resources import inline, known

_BOOLEANS = frozenset({"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"})


def find_wrong_value(
    inputs: Iterable[Mapping[str, Any]], given: Any, strict: bool, hidden: Collection[str]
) -> str | None:
    """Why the first wrong value is wrong, in words; None if none is, as far as it is known before anything is made.

    A String takes anything, as in Heat; what comes from another task is known when that has run. The
    values of ``hidden`` inputs are not told.
    """
    values = known.resolved(given, strict) if isinstance(given, function.Function) else given
    if not isinstance(values, Mapping):
        return None
    for io in inputs:
        name, kind = str(io["name"]), str(io.get("type") or "String")
        value = known.resolved(values.get(name), strict)
        if value is not None and inline.reference_of(value) is None and not _fits(kind, value):
            return f"input {name} is declared as {kind}: {'its value' if name in hidden else repr(value)} is none"
    return None


def _fits(kind: str, value: Any) -> bool:
    if kind == "Number":
        return _is_number(value)
    if kind == "Boolean":
        return isinstance(value, bool) or str(value).strip().lower() in _BOOLEANS
    if kind == "CommaDelimitedList":
        return isinstance(value, (str, list, tuple))
    if kind == "Json" and isinstance(value, str):
        return _is_json(value)
    return True


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        float(value)
    except (ValueError, OverflowError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
