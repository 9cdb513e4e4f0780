# SPDX-License-Identifier: Apache-2.0
"""Graph: the tasks a template would add and what orders them; its longest way, its circles, its two formats."""

from __future__ import annotations

import dataclasses
import graphlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from heat_workflow import errors, lifecycle


@dataclasses.dataclass(frozen=True)
class Node:
    """A task, or what tasks may wait for besides: a workflow, a group, a nested stack. ``name`` is a path."""

    name: str
    type: str


@dataclasses.dataclass(frozen=True, order=True)
class Edge:
    """``target`` waits for ``source``; ``how`` says it in the template's words.

    What Heat orders is told to the tasks API with the task; inside a workflow the API orders by itself.
    """

    source: str
    target: str
    how: str
    told: bool = True


@dataclasses.dataclass(frozen=True)
class Graph:
    """What a template orders, and how."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]

    def critical_path(self) -> list[str]:
        """The longest chain of nodes that wait for each other: no plan is done in fewer steps."""
        sources: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for edge in self.edges:
            sources[edge.target].append(edge.source)
        longest: dict[str, list[str]] = {}
        for name in graphlib.TopologicalSorter(sources).static_order():
            before: list[str] = max((longest[source] for source in sources[name]), key=len, default=[])
            longest[name] = [*before, name]
        return max(longest.values(), key=len, default=[])

    def told(self, name: str) -> list[dict[str, str]]:
        """The edges of a task as the plugin records them: within its own stack, sources by their own names."""
        found = {(edge.source.rpartition("/")[2], edge.how) for edge in self.edges if edge.told and edge.target == name}
        return [{"from": source, "how": how} for source, how in sorted(found)]


def refuse_circles(required: Mapping[str, Iterable[str]], what: str) -> None:
    """Invalid, naming one circle of names that require each other, if there is one."""
    circle = lifecycle.find_cycle(required)
    if circle is not None:
        raise errors.Invalid(f"{what} require each other in a circle: {' -> '.join(circle)}", code="cycle")


def as_json(graph: Graph) -> str:
    shown: dict[str, Any] = {
        "nodes": [dataclasses.asdict(node) for node in graph.nodes],
        "edges": [{"from": edge.source, "to": edge.target, "how": edge.how} for edge in graph.edges],
        "critical_path": graph.critical_path(),
    }
    return json.dumps(shown, indent=2)


def as_dot(graph: Graph) -> str:
    """For Graphviz; the critical path is drawn bold."""
    path = graph.critical_path()
    bold = set(zip(path, path[1:]))
    lines = ["digraph plan {", "  rankdir=LR;"]
    for node in graph.nodes:
        label = f"{node.name}\n{node.type}"
        lines.append(f"  {_quoted(node.name)} [label={_quoted(label)}];")
    for edge in graph.edges:
        style = ", style=bold" if (edge.source, edge.target) in bold else ""
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(edge.how)}{style}];")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return json.dumps(text)
