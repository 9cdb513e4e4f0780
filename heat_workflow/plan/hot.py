# SPDX-License-Identifier: Apache-2.0
"""HOT: the one file of the plan that knows Heat, whose own parser reads the template in this process.

The edges are found by the same code that heat-engine uses to record them.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from heat_workflow.plan.graph import Edge, Graph, Node, refuse_circles
from heat_workflow.plan.sources import Sources

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Heat's libraries say of themselves
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)  # before Heat is imported, or eventlet would be
    from heat.common import environment_format, exception, messaging
    from heat.engine import constraints, environment, resources, stack, template
    from heat.engine.resources import stack_resource
    from oslo_config import cfg

    from heat_workflow.edges import hot_edges
    from heat_workflow.plan.checking import Checker, Findings, Offline, check_each, in_words

LOG = logging.getLogger(__name__)
PLUGINS = Path(__file__).parents[1] / "plugin_dir"
Parts = dict[str, list[tuple[str, str]]]  # by inline task, what it waits for and by which words
SAMPLES: dict[str, Any] = {"number": 1, "json": {}, "comma_delimited_list": [], "boolean": True}


@dataclasses.dataclass(frozen=True)
class Reading:
    """What became of a template: its graph, unless there are problems, and what was made up or could not be checked."""

    graph: Graph | None
    problems: Sequence[str]
    notes: Sequence[str]


def read_template(sources: Sources) -> Reading:
    """Have Heat validate the template, then read its graph. Whatever the files hold, what is wrong is said in words."""
    findings = Findings()
    graph = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start_heat()
            graph = _checked_graph(sources, findings)
    except Exception as failure:  # Heat's parser was not made for everything that a file may hold
        LOG.debug("the template cannot be read", exc_info=True)
        told = isinstance(failure, (exception.HeatException, ValueError))
        findings.problems.append(f"{'' if told else 'Heat cannot read it: '}{in_words(failure, whole=True)}")
    return Reading(graph, findings.problems, findings.notes)


def _checked_graph(sources: Sources, findings: Findings) -> Graph | None:
    for section in ("parameters", "conditions", "resources", "outputs"):
        if not isinstance(sources.template.get(section) or {}, dict):
            findings.problems.append(f"section {section} is no map")
    if findings.problems:
        return None
    env = environment.Environment(environment_format.validate(sources.environment))
    parsed = template.Template(sources.template, env=env, files=sources.files)
    if not check_each(parsed, lambda part: part.validate(), findings):
        return None
    made_up = _give_samples(parsed, env)
    findings.notes.extend(f"parameter {name} has no value: {value!r} was made up" for name, value in made_up.items())
    root = stack.Stack(Offline(project_id="plan"), "plan", parsed, convergence=True)
    Checker(root, made_up, findings).check()
    if findings.problems:
        return None
    nodes, edges = _read(root, "")
    return Graph(nodes, sorted(set(edges)))


def start_heat() -> None:
    """Have Heat's types and ours there in this process, with no database and nobody to talk to. May be repeated."""
    logging.getLogger("heat").setLevel(logging.CRITICAL)
    cfg.CONF([], project="heat", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("plugin_dirs", [str(PLUGINS)])
    cfg.CONF.set_override("max_resources_per_stack", -1)  # to count them Heat would ask its database
    messaging.setup("fake://", optional=True)  # groups have a client of the engine, which nobody calls here
    resources.initialise()


def _give_samples(parsed: Any, env: Any) -> dict[str, Any]:
    """A value for every parameter that has none: the graph hangs on names, seldom on values. Those that were given."""
    made_up = {}
    for name, schema in parsed.param_schemata().items():
        if schema.required and name not in env.params and name not in env.param_defaults:
            made_up[name] = env.params[name] = _sample(name, schema)
    return made_up


def _sample(name: str, schema: Any) -> Any:
    """A value of the parameter's type, one that its constraints allow if they list or bound them."""
    for constraint in schema.constraints:
        allowed = list(getattr(constraint, "allowed", ()))
        if allowed:
            return allowed[0]
        if isinstance(constraint, constraints.Range):
            return constraint.min if constraint.min is not None else constraint.max
    return SAMPLES.get(schema.type.lower(), name)


def _read(root: Any, prefix: str) -> tuple[list[Node], list[Edge]]:
    """Nodes and edges of a stack and of those nested in it, named from ``prefix`` on."""
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


def _inside_stack(resource: Any, path: str) -> tuple[list[Node], list[Edge]]:
    """The stack inside, as Heat would make it; nothing if that needs values which only a cloud has."""
    try:
        inner = resource._parse_nested_stack("nested", resource.child_template(), resource.child_params())
    except Exception as failure:
        LOG.warning("%s is not looked into: %s", path, failure)
        return [], []
    inner.strict_validate = False  # its parameters may hang on what is not there
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
