# SPDX-License-Identifier: Apache-2.0
"""Output types: the values a hook left, as the types that the config declares for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from guest_agent.outputs import check_json
from guest_agent.task import Output
from guest_agent.untrusted import read_json

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

_NUMBER_MOST = 1000  # characters: beyond any number there is, and cheap to read


def as_declared(declared: Sequence[Output], values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values as Number, Boolean, CommaDelimitedList and Json, and in words what is none.

    A value of the wrong type stays as it came: whoever looks for the mistake wants to see it. String, which is also
    what Heat takes a missing type for, takes anything.
    """
    typed, problems = dict(values), []
    for output in declared:
        if output.name not in values or output.type not in _READERS:
            continue
        try:
            value = _READERS[output.type](values[output.name])
            check_json(value)
            typed[output.name] = value
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            shown = "its value" if output.hidden else repr(values[output.name])[:100]
            problems.append(f"output {output.name} is declared as {output.type}: {shown} is none")
    return typed, problems


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError(value)
    if isinstance(value, (int, float)):
        return value
    if len(value) > _NUMBER_MOST:
        raise ValueError(value)
    try:
        return int(value)
    except ValueError:
        return float(value)


def _boolean(value: Any) -> bool:
    return value if isinstance(value, bool) else _BOOLEANS[str(value).strip().lower()]


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise TypeError(value)
    return [part.strip() for part in value.strip().split(",")] if value.strip() else []


def _json(value: Any) -> Any:
    return read_json(value) if isinstance(value, str) else value


_READERS: dict[str, Callable[[Any], Any]] = {
    "Number": _number,
    "Boolean": _boolean,
    "CommaDelimitedList": _list,
    "Json": _json,
}
