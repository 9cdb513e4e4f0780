# SPDX-License-Identifier: Apache-2.0
"""Readers: who reads which attribute of a resource in its stack, so that what would fail later is refused early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Path = tuple[Any, ...]  # the attribute and what is picked from it, as far as it is known


def readers_of(resource: Any) -> Iterator[tuple[str, Path]]:
    """Each reader in words, and what it reads. Where all attributes are asked for, Heat knows no single one."""
    stack = resource.stack.defn
    for name in sorted(stack.enabled_rsrc_names()):
        for path in _paths(stack.resource_definition(name), resource):
            yield f"resource {name}", path
    for name in sorted(stack.enabled_output_names()):
        for path in _paths(stack.output_definition(name), resource):
            yield f"output {name} of the stack", path


def _paths(definition: Any, resource: Any) -> list[Path]:
    found = definition.dep_attrs(resource.name, load_all=True)
    return sorted((each if isinstance(each, tuple) else (each,) for each in found), key=repr)


def hidden_read(output: str, reader: str, instead: str) -> str:
    """Why a hidden output that is read is refused, in words."""
    return f"output {output} is hidden, and {reader} reads it by get_attr; {instead}"
