# SPDX-License-Identifier: Apache-2.0
"""Events: a workflow's ordered history, and the graph of its tasks as it stands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from heat_workflow import errors
from heat_workflow.model import Event
from heat_workflow.store import Tx
from heat_workflow.taskqueue import TaskQueue, workflows

_STREAM_PAGE = 500
_KEEP_ALIVE = 15.0  # seconds of silence before a comment line, below the idle timeouts of common proxies


def list_events(tx: Tx, project_id: str, workflow_id: str, after: int, limit: int) -> list[Event]:
    """The events numbered above ``after``, in order."""
    workflows.get_workflow(tx, project_id, workflow_id)
    return tx.list_events(workflow_id, after, limit)


async def stream(
    queue: TaskQueue, project_id: str, workflow_id: str, after: int, view: Callable[[Event], dict[str, Any]]
) -> AsyncIterator[bytes]:
    """Server-sent events from ``after`` on, until the workflow is deleted, the store is out of reach or the process
    ends: who comes back goes on from there. A comment line now and then keeps the connection open."""
    place = (project_id, workflow_id)
    while not queue.closed:
        try:
            found = await queue.wait_until(
                bool, [f"workflow:{workflow_id}"], _KEEP_ALIVE, list_events, *place, after, _STREAM_PAGE
            )
        except (errors.NotFound, errors.Unavailable):
            return
        for event in found:
            yield f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(view(event))}\n\n".encode()
            after = event.seq
        if not found:
            yield b": nothing new\n\n"


def graph(tx: Tx, project_id: str, workflow_id: str) -> dict[str, Any]:
    """Nodes (tasks that hold their name) and edges: enforced ones from ``requires``, told ones from Heat."""
    workflows.get_workflow(tx, project_id, workflow_id)
    tasks = [task for task in tx.list_tasks(workflow_id) if task.holds_name]
    nodes = [
        {"id": task.id, "name": task.name, "state": task.state.value, "server": task.spec.get("server")}
        for task in tasks
    ]
    shown = {task.id for task in tasks}
    edges = [
        {"from": required, "to": task_id, "how": "requires"}
        for task_id, required in tx.list_requirements(workflow_id)
        if task_id in shown and required in shown
    ]
    by_resource = {_resource(task.spec): task.id for task in tasks if _resource(task.spec)}
    for task in tasks:
        heat = task.spec.get("heat")
        told = heat.get("edges") if isinstance(heat, dict) else None
        for edge in told if isinstance(told, list) else ():
            source = by_resource.get(str(edge["from"])) if isinstance(edge, dict) else None
            if isinstance(edge, dict) and source is not None:
                edges.append({"from": source, "to": task.id, "how": str(edge["how"])})
    return {"nodes": nodes, "edges": edges}


def _resource(spec: Any) -> str | None:
    heat = spec.get("heat")
    return heat.get("resource") if isinstance(heat, dict) else None


def dot(shown: dict[str, Any]) -> str:
    """The graph for Graphviz."""
    lines = ["digraph workflow {"]
    for node in shown["nodes"]:
        label = f"{node['name']}\n{node['state']}"
        lines.append(f"  {json.dumps(node['id'])} [label={json.dumps(label)}];")
    for edge in shown["edges"]:
        ends = f"{json.dumps(edge['from'])} -> {json.dumps(edge['to'])}"
        lines.append(f"  {ends} [label={json.dumps(edge['how'])}];")
    return "\n".join([*lines, "}", ""])
