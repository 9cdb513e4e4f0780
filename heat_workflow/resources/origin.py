# SPDX-License-Identifier: Apache-2.0
"""Origin: where in Heat a task comes from: its path from the root stack, its workflow, the edges it has in the HOT."""

from __future__ import annotations

import dataclasses
from typing import Any

from heat.objects import stack as stack_object

from heat_workflow.client import stack_workflow_id
from heat_workflow.edges import hot_edges
from heat_workflow.shapes import HeatOrigin, WorkflowRef

DEADLINE_MARGIN = 60.0  # seconds before Heat's own timeout, so that the user reads our reason and not Heat's
LEAST_DEADLINE = 30.0


@dataclasses.dataclass(frozen=True)
class Place:
    """A resource's place in the tree of stacks."""

    path: str  # "web/0/app": names from the root stack down
    root_id: str
    root_name: str

    @property
    def workflow(self) -> WorkflowRef:
        """The workflow that the root stack's tasks share."""
        return {"id": stack_workflow_id(self.root_id), "name": self.root_name}


def find_place(resource: Any) -> Place:
    """The resource's place. A nested stack costs one database row per level; its parents are not loaded."""
    stack = resource.stack
    names, stack_id, stack_name = [resource.name], stack.id, stack.name
    parent_name, owner_id = stack.parent_resource_name, stack.owner_id
    while owner_id:
        names.append(parent_name or stack_name)
        row = stack_object.Stack.get_by_id(resource.context, owner_id, show_deleted=True)
        stack_id, stack_name = row.id, row.name
        parent_name, owner_id = row.parent_resource_name, row.owner_id
    return Place("/".join(reversed(names)), stack_id, stack_name)


def heat_origin(resource: Any, action: str) -> HeatOrigin:
    """What is recorded on a task: never enforced, only told."""
    stack = resource.stack
    return {
        "stack_id": stack.id,
        "stack_name": stack.name,
        "resource": resource.name,
        "action": action,
        "edges": hot_edges(stack.defn, resource.t),
    }


def deadline(resource: Any) -> float:
    """Seconds the task may take in all: what is left of the stack operation, less a margin."""
    return float(round(max(LEAST_DEADLINE, resource.stack.time_remaining() - DEADLINE_MARGIN)))


def server_label(resource: Any, server_id: str | None) -> str:
    """The server as a reader knows it: the resource's name in the template, then the id."""
    if not server_id:
        return "any server"
    for name in sorted(resource.t.required_resource_names()):
        if name in resource.stack.defn and resource.stack.defn[name].FnGetRefId() == server_id:
            return f"server {name} ({server_id})"
    return f"server {server_id}"
