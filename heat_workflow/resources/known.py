# SPDX-License-Identifier: Apache-2.0
"""Known: what a template's values are before anything is made, when some come from functions that cannot tell yet.

Heat resolves an attribute of a resource that is not there to null, and compares a function by its result. Whoever asks
early has three answers: given, not given, not known yet. What is not known yet is checked when it is, at run time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from heat.engine import function

from heat_workflow.resources import definitions
from heat_workflow.shapes import Json


def is_unknown(value: Any, strict: bool) -> bool:
    """Whether some of a value will only be known later.

    That is what refers to resources which are not there and, where Heat does not validate strictly (in a nested
    stack whose parameters are not known yet), all that a function gives.
    """
    if any(each.action == each.INIT for each in function.dependencies(value)):
        return True
    return not strict and _has_function(value)


def find_given(value: Any, strict: bool) -> bool | None:
    """Whether there is a value, neither null nor an empty list; None if that is not known yet."""
    if not isinstance(value, function.Function):
        return value is not None and value != []
    present = not _is_empty(_result(value))
    if not is_unknown(value, strict):
        return present
    refers = any(True for _ in function.dependencies(value))
    return True if present and refers else None


def resolved(value: Any, strict: bool) -> Any:
    """The value; None if some of it is not known yet."""
    return None if is_unknown(value, strict) else function.resolve(value)


@dataclasses.dataclass(frozen=True)
class KnownDefinition:
    """A definition as far as it is known before anything is made; None stands for what is not."""

    group: str | None
    config: Json | None
    inputs: Sequence[Mapping[str, Any]] | None
    outputs: Sequence[str] | None


def known_definition(fields: Any, strict: bool, group: str | None = None) -> KnownDefinition | None:
    """What is known of a definition as the template gives it; None if that is nothing.

    ``group`` is what its resource makes of it, whatever the fields say.
    """
    given = fields if isinstance(fields, Mapping) else resolved(fields, strict)
    if not isinstance(given, Mapping):
        return None
    known_group = given.get("group") if group is None else group
    outputs = _entries(given.get("outputs"), strict)
    return KnownDefinition(
        definitions.UNGROUPED if known_group is None else resolved(known_group, strict),
        resolved(given.get("config"), strict),
        _entries(given.get("inputs"), strict),
        None if outputs is None else [str(output["name"]) for output in outputs],
    )


def names_in(values: Any, strict: bool) -> Collection[str]:
    """The names in a list that are known; a list that is not known has none."""
    if isinstance(values, function.Function):
        values = resolved(values, strict)
    if isinstance(values, str) or not isinstance(values, Iterable):
        return ()
    known = (resolved(name, strict) for name in values)
    return [str(name) for name in known if name is not None]


def _entries(given: Any, strict: bool) -> Sequence[Mapping[str, Any]] | None:
    """Inputs or outputs, each a map with a name; None if they are not known, or are none."""
    if given is None:
        return ()
    entries = resolved(given, strict)
    named = isinstance(entries, list) and all(isinstance(io, Mapping) and io.get("name") for io in entries)
    return entries if named else None


def _has_function(value: Any) -> bool:
    if isinstance(value, function.Function):
        return True
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return any(_has_function(part) for part in parts)


def _result(value: Any) -> Any:
    try:
        return function.resolve(value, nullable=True)
    except (ValueError, TypeError, KeyError):  # it makes nothing of what is not there yet
        return None


def _is_empty(value: Any) -> bool:
    return value is None or value is Ellipsis or value == []
