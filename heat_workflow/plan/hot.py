# SPDX-License-Identifier: Apache-2.0
"""HOT: the one file of the plan that knows Heat, whose own parser reads the template in this process.

The edges are found by the same code that heat-engine uses to record them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heat_workflow import errors
from heat_workflow.plan.graph import Edge, Graph, Node, refuse_circles
from heat_workflow.plan.sources import Sources

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Heat's libraries say of themselves
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)  # before Heat is imported, or eventlet would be
    from heat.common import context, exception
    from heat.engine import environment, resources, stack, template
    from heat.engine.resources import stack_resource
    from oslo_config import cfg

    from heat_workflow.edges import hot_edges

PLUGINS = Path(__file__).parents[1] / "plugin_dir"
Parts = dict[str, list[tuple[str, str]]]  # by inline task, what it waits for and by which words
SAMPLES: dict[str, Any] = {"number": 1, "json": {}, "comma_delimited_list": [], "boolean": True}


def read_graph(sources: Sources) -> Graph:
    """The graph of the template; Invalid, in Heat's words or ours, if there is none."""
    _start_heat()
    try:
        env = environment.Environment(sources.environment)
        parsed = template.Template(sources.template, env=env, files=sources.files)
        _give_samples(parsed, env)
        root = stack.Stack(context.RequestContext(project_id="plan"), "plan", parsed, convergence=True)
        nodes, edges = _Reader().read(root, "")
    except (exception.HeatException, ValueError, TypeError, KeyError) as failure:
        raise errors.Invalid(str(failure)) from failure
    return Graph(nodes, sorted(set(edges)))


def _start_heat() -> None:
    logging.getLogger("heat").setLevel(logging.CRITICAL)
    cfg.CONF([], project="heat", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("plugin_dirs", [str(PLUGINS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resources.initialise()


def _give_samples(parsed: Any, env: Any) -> None:
    """A value for every parameter that has none: the graph hangs on names, seldom on values."""
    for name, schema in parsed.param_schemata().items():
        if schema.required and name not in env.params:
            env.params[name] = SAMPLES.get(schema.type.lower(), name)


class _Reader:
    """Walks a stack and those nested in it."""

    def read(self, root: Any, prefix: str) -> tuple[list[Node], list[Edge]]:
        """Nodes and edges of the stack, named from ``prefix`` on."""
        nodes: list[Node] = []
        edges: list[Edge] = []
        names = sorted(root.defn.enabled_rsrc_names())
        required = {name: sorted(root.defn.resource_definition(name).required_resource_names()) for name in names}
        refuse_circles(required, "resources")
        for name in names:
            one = root[name]
            told = hot_edges(root.defn, one.t)
            parts: Parts = getattr(one, "parts", dict)()
            nested = isinstance(one, stack_resource.StackResource)
            if not getattr(one, "adds_tasks", False) and not nested:
                continue
            path = f"{prefix}{name}"
            nodes.append(Node(path, one.t.resource_type))
            roots = [f"{path}/{part}" for part, before in parts.items() if not before] or [path]
            edges += [Edge(f"{prefix}{edge['from']}", root, edge["how"]) for edge in told for root in roots]
            nodes += [Node(f"{path}/{part}", "task") for part in parts]
            edges += list(_inner(path, parts))
            if nested:
                inner_nodes, inner_edges = self._nested(one, path)
                nodes, edges = nodes + inner_nodes, edges + inner_edges
        return nodes, edges

    def _nested(self, resource: Any, path: str) -> tuple[list[Node], list[Edge]]:
        """The stack inside, as Heat would make it; nothing if that needs values which only a cloud has."""
        try:
            inner = resource._parse_nested_stack(
                path.rpartition("/")[2], resource.child_template(), resource.child_params()
            )
        except Exception as failure:
            logging.getLogger(__name__).warning("%s is not looked into: %s", path, failure)
            return [], []
        return self.read(inner, f"{path}/")


def _inner(path: str, parts: Parts) -> Iterator[Edge]:
    """The edges inside a workflow, and from its last tasks to the workflow, which is done when they are."""
    refuse_circles({part: [source for source, _ in before] for part, before in parts.items()}, f"tasks of {path}")
    used = {source for before in parts.values() for source, _ in before}
    for part, before in parts.items():
        for source, how in before:
            yield Edge(f"{path}/{source}", f"{path}/{part}", how, told=False)
        if part not in used:
            yield Edge(f"{path}/{part}", path, "part of the workflow", told=False)
