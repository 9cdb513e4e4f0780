# SPDX-License-Identifier: Apache-2.0
"""Edges: which tasks of its stack a resource waits for in Heat, and by which words of the template."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

from heat.common import exception
from heat.engine import function
from heat.engine.attributes import ALL_ATTRIBUTES
from heat.engine.resources import stack_resource

from heat_workflow.shapes import Edge


def hot_edges(stack_defn: Any, definition: Any) -> list[Edge]:
    """The edges of a resource, in a stable order.

    Between two tasks there may be resources that are no tasks, a Value or a SoftwareConfig: they are followed to the
    tasks behind them. A nested stack may hold tasks of its own, so it counts as one too. Only definitions are read:
    in a convergence worker other resources are not loaded.
    """
    found: dict[tuple[str, str], None] = {}
    followed = {definition.name}
    pending = [definition]
    while pending:
        for name, how in _references(pending.pop()):
            if name not in stack_defn:
                continue
            target = stack_defn.resource_definition(name)
            kind = _class_of(stack_defn, target)
            is_task = getattr(kind, "adds_tasks", False)
            if is_task or issubclass(kind, stack_resource.StackResource):
                found[name, how] = None
            if not is_task and name not in followed:
                followed.add(name)
                pending.append(target)
    return [{"from": name, "how": how} for name, how in sorted(found)]


def _references(definition: Any) -> Iterator[tuple[str, str]]:
    """Each reference of a definition as (resource name, provenance)."""
    for name in function.resolve(definition._depends) or ():
        yield name, "depends_on"
    for section in (definition._properties, definition._metadata):
        if section is None:
            continue
        attributes = [(name, _dotted(path)) for name, path in function.all_dep_attrs(section)]
        for name, path in attributes:
            yield name, f"get_attr: {name}.{path}" if path != ALL_ATTRIBUTES else f"get_attr: {name}"
        # Heat counts a get_attr as a dependency too: what is left over are get_resource and its cousins.
        named = collections.Counter(resource.name for resource in function.dependencies(section))
        for name in named - collections.Counter(name for name, _ in attributes):
            yield name, f"get_resource: {name}"


def _dotted(path: Any) -> str:
    return path if isinstance(path, str) else ".".join(str(part) for part in path)


def _class_of(stack_defn: Any, definition: Any) -> type:
    try:
        kind: type = stack_defn.env.registry.get_class_to_instantiate(
            definition.resource_type, resource_name=definition.name
        )
    except exception.StackValidationFailed:
        return object
    return kind
