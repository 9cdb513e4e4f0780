# SPDX-License-Identifier: Apache-2.0
"""Resource pages: one for each type that Heat gets from us, from the schema that Heat itself reads."""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doc.ext import rst

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Heat's libraries warn of each other
    logging.getLogger("heat").setLevel(logging.ERROR)  # and Heat of its own types
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)  # before anything of Heat's asks for one
    from heat_workflow.resources import resource_mapping

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
_SUPPORTED = "SUPPORTED"


def pages() -> dict[str, str]:
    """File name -> text."""
    return {f"{kind.lower().replace('::', '-')}.rst": _page(kind, cls) for kind, cls in resource_mapping().items()}


def _page(kind: str, cls: Any) -> str:
    parts = [rst.heading(kind, "="), f"{inspect.cleandoc(cls.__doc__ or '')}\n"]
    parts += _properties(cls.properties_schema)
    parts += _policies(getattr(cls, "update_policy_schema", None) or {})
    parts += [rst.heading("Attributes", "-"), _attributes(cls.attributes_schema)]
    examples = [path.name for path in sorted(TEMPLATES.glob("*.yaml")) if f"type: {kind}\n" in path.read_text()]
    if examples:
        parts.append(f"Examples: {', '.join(f'``templates/{name}``' for name in examples)}.\n")
    return "\n".join(parts)


def _properties(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema:
        yield rst.heading("Properties", "-")
        yield rst.table(("Name", "Type", "Update", "Meaning"), _rows(schema), (24, 12, 12, 52))


def _policies(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema:
        yield rst.heading("Update policy", "-")
        rows = [(name, kind, meaning) for name, kind, _, meaning in _rows(schema)]
        yield rst.table(("Name", "Type", "Meaning"), rows, (30, 12, 58))


def _rows(schema: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str, str]]:
    """A row for each property and for what is inside it."""
    for name, found in schema.items():
        inside, more = _inside(found)
        update = "in place" if found.update_allowed else "" if above else "replaces"
        yield f"``{above}{name}``", f"{_type(found)}{more}", update, _meaning(found)
        yield from _rows(inside, f"{above}{name}{'[]' if found.type == 'List' else ''}.")


def _inside(schema: Any) -> tuple[Mapping[str, Any], str]:
    """The schema of what a map or the items of a list hold, and in words what simple items are."""
    found = schema.schema
    if found is None:
        return {}, ""
    if schema.type == "Map":
        named = {name: part for name, part in dict(found).items() if name != "*"}
        return named, "" if named else _of_any(found)
    items = found["*"]
    return (dict(items.schema), "") if items.type == "Map" and items.schema else ({}, f" of {_type(items)}")


def _of_any(found: Any) -> str:
    return f" of {_type(found['*'])}" if "*" in dict(found) else ""


def _type(schema: Any) -> str:
    return str(schema.type).lower()


def _meaning(schema: Any) -> str:
    words = [rst.plain(schema.description or "")]
    if schema.required:
        words.append("Required.")
    if schema.default is not None:
        words.append(f"Default: ``{json.dumps(schema.default)}``.")
    words += [f"{rst.plain(text)}." for text in map(_constraint, schema.constraints) if text]
    if schema.support_status.status != _SUPPORTED:
        words.append(f"{schema.support_status.status.capitalize()}.")
    return " ".join(words)


def _constraint(constraint: Any) -> str:
    """In words; values that differ in case alone are said once."""
    if hasattr(constraint, "allowed"):
        kept = {str(value).lower(): str(value) for value in reversed(constraint.allowed)}
        return f"One of {', '.join(reversed(list(kept.values())))}"
    if hasattr(constraint, "min") and hasattr(constraint, "max"):
        low = None if constraint.min is None else f"at least {constraint.min:g}"
        high = None if constraint.max is None else f"at most {constraint.max:g}"
        return " and ".join(filter(None, (low, high))).capitalize()
    return str(constraint).rstrip(".")


def _attributes(schema: Mapping[str, Any]) -> str:
    rows = [
        (f"``{name}``", str(found.type or "any").lower(), rst.plain(found.description or ""))
        for name, found in schema.items()
    ]
    return rst.table(("Name", "Type", "Meaning"), rows, (24, 12, 64))
