# SPDX-License-Identifier: Apache-2.0
"""Ordering: which task of its server a task follows by name, where nothing else in the template orders the two.

Heat sorts the deployments of a server by name, and its agent runs them one by one. Here each may run as soon as it is
there, so the order is made a dependency. All dependencies that are added follow one order of the whole stack, which is
also that of the template's own: so no circle can come about.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Mapping
from typing import Any

from heat.engine import function

from heat_workflow.resources import known, schema


def find_predecessor(resource: Any) -> Any:
    """The task that comes right before this one on its server, None if there is none or this one has no name."""
    if _name_of(resource) is None:
        return None
    stack = resource.stack
    named = {each.name: each for each in stack.values() if _name_of(each) is not None}
    requires = {each.name: each.t.required_resource_names() & stack.keys() for each in stack.values()}
    ordered = [named[name] for name in _in_order(requires, named) if name in named]
    same_server = [each for each in ordered if _server_of(each) == _server_of(resource)]
    place = same_server.index(resource) if resource in same_server else 0
    return same_server[place - 1] if place else None


def _in_order(requires: Mapping[str, set[str]], named: Mapping[str, Any]) -> list[str]:
    """Each resource after those it requires; of those that may come next those without a name, then the first by it.

    What goes round in a circle, which Heat refuses, is left out.
    """
    open_for = {name: set(required) for name, required in requires.items()}
    dependants: dict[str, list[str]] = {}
    for name, required in requires.items():
        for other in required:
            dependants.setdefault(other, []).append(name)

    def key(name: str) -> tuple[str, str]:
        return (str(_name_of(named[name])) if name in named else "", name)

    heap = [key(name) for name, required in open_for.items() if not required]
    heapq.heapify(heap)
    ordered = []
    while heap:
        _, name = heapq.heappop(heap)
        ordered.append(name)
        for dependant in dependants.get(name, ()):
            open_for[dependant].discard(name)
            if not open_for[dependant]:
                heapq.heappush(heap, key(dependant))
    return ordered


def _name_of(resource: Any) -> Any:
    """The sort key that the author gave a task; None if there is none, or it is not known yet."""
    if not getattr(resource, "adds_tasks", False) or schema.SERVER not in resource.properties_schema:
        return None
    if known.is_unknown(resource.properties.data.get(schema.NAME), resource.stack.strict_validate):
        return None
    try:
        return resource.properties[schema.NAME]
    except (ValueError, TypeError):  # it is wrong, which validation says
        return None


def _server_of(resource: Any) -> Any:
    """What tells the server from others, before its ID is known: the resource, or the words that lead to it."""
    given = resource.properties.data.get(schema.SERVER)
    referred = list(function.dependencies(given))
    try:
        value = function.resolve(given)
    except (ValueError, TypeError):
        value = None
    if len(referred) == 1 and value == referred[0].FnGetRefId():
        return [referred[0].name]
    return value if not referred else repr(copy.deepcopy(given))  # a copy of a function is the template's text
