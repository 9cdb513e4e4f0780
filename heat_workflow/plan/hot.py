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
    from heat.common import context, exception, messaging
    from heat.engine import environment, resources, stack, template
    from heat.engine.resources import stack_resource
    from oslo_config import cfg

    from heat_workflow.edges import hot_edges

LOG = logging.getLogger(__name__)
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
        nodes, edges = _read(root, "")
    except (exception.HeatException, ValueError, TypeError, KeyError) as failure:
        raise errors.Invalid(str(failure)) from failure
    return Graph(nodes, sorted(set(edges)))


def _start_heat() -> None:
    logging.getLogger("heat").setLevel(logging.CRITICAL)
    cfg.CONF([], project="heat", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("plugin_dirs", [str(PLUGINS)])
    cfg.CONF.set_override("max_resources_per_stack", -1)  # to count them Heat would ask its database
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        messaging.setup("fake://", optional=True)  # groups have a client of the engine, which nobody calls here
        resources.initialise()


def _give_samples(parsed: Any, env: Any) -> None:
    """A value for every parameter that has none: the graph hangs on names, seldom on values."""
    for name, schema in parsed.param_schemata().items():
        if schema.required and name not in env.params:
            env.params[name] = SAMPLES.get(schema.type.lower(), name)


def _read(root: Any, prefix: str) -> tuple[list[Node], list[Edge]]:
    """Nodes and edges of a stack and of those nested in it, named from ``prefix`` on."""
    _refuse_disorder(root.defn)
    nodes: list[Node] = []
    edges: list[Edge] = []
    for name in sorted(root.defn.enabled_rsrc_names()):
        one, path = root[name], f"{prefix}{name}"
        nested = isinstance(one, stack_resource.StackResource)
        if not nested and not getattr(one, "adds_tasks", False):
            continue
        nodes.append(Node(path, one.t.resource_type))
        told = [(f"{prefix}{edge['from']}", edge["how"]) for edge in hot_edges(root.defn, one.t)]
        parts: Parts = getattr(one, "parts", dict)()
        roots = [f"{path}/{part}" for part, before in parts.items() if not before] or [path]
        edges += [Edge(source, root_name, how) for source, how in told for root_name in roots]
        nodes += [Node(f"{path}/{part}", "task") for part in parts]
        edges += _inside_workflow(path, parts)
        if nested:
            inner_nodes, inner_edges = _inside_stack(one, path)
            nodes, edges = nodes + inner_nodes, edges + inner_edges
            edges += _around(path, {source for source, _ in told}, inner_nodes, inner_edges)
    return nodes, edges


def _refuse_disorder(defn: Any) -> None:
    """Invalid if a resource waits for one that is not there, or for itself in the end."""
    known = defn.all_rsrc_names()
    required = {
        name: sorted(defn.resource_definition(name).required_resource_names()) for name in defn.enabled_rsrc_names()
    }
    for name, others in sorted(required.items()):
        for other in others:
            if other not in known:
                raise errors.Invalid(f"resource {name} waits for {other}, which is not in the template")
    refuse_circles(required, "resources")


def _inside_stack(resource: Any, path: str) -> tuple[list[Node], list[Edge]]:
    """The stack inside, as Heat would make it; nothing if that needs values which only a cloud has."""
    try:
        inner = resource._parse_nested_stack("nested", resource.child_template(), resource.child_params())
    except Exception as failure:
        LOG.warning("%s is not looked into: %s", path, failure)
        return [], []
    return _read(inner, f"{path}/")


def _around(path: str, sources: set[str], nodes: list[Node], edges: list[Edge]) -> Iterator[Edge]:
    """What is before a nested stack is before its first tasks, and the stack is done when its last ones are."""
    targets, used = {edge.target for edge in edges}, {edge.source for edge in edges}
    for node in nodes:
        if node.name not in targets:
            yield from (Edge(source, node.name, f"before {path}", told=False) for source in sources)
        if node.name not in used:
            yield Edge(node.name, path, "part of the stack", told=False)


def _inside_workflow(path: str, parts: Parts) -> Iterator[Edge]:
    """The edges inside a workflow, and from its last tasks to the workflow, which is done when they are."""
    refuse_circles({part: [source for source, _ in before] for part, before in parts.items()}, f"tasks of {path}")
    used = {source for before in parts.values() for source, _ in before}
    for part, before in parts.items():
        for source, how in before:
            yield Edge(f"{path}/{source}", f"{path}/{part}", how, told=False)
        if part not in used:
            yield Edge(f"{path}/{part}", path, "part of the workflow", told=False)
