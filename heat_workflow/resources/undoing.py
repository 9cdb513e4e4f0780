# SPDX-License-Identifier: Apache-2.0
"""Undo: whether a task that goes leaves a living server behind, and which task of a replaced resource to take back."""

from __future__ import annotations

from typing import Any

from heat.engine import stack as stack_engine
from heat.objects import resource as resource_object
from heat.objects import stack as stack_object


def is_rolling_back(resource: Any) -> bool:
    """Whether the stack of the resource, or a stack around it, is being rolled back."""
    stack = resource.stack
    if stack.action == stack.ROLLBACK:
        return True
    return any(row.action == stack.ROLLBACK and row.status == stack.IN_PROGRESS for row in _around(resource))


def server_stays(resource: Any, server_id: str | None) -> bool:
    """Whether the server outlives what Heat is doing to the resource that uses it.

    It goes if it is a resource of the same tree of stacks and its stack, or a stack around that, is being deleted, has
    replaced it or has no place for it any more. A server of another stack, or known by its id alone, stays.
    """
    if server_id is None:
        return True
    rows = resource_object.Resource.get_all_by_physical_resource_id(resource.context, server_id)
    own = [row for row in rows if row.root_stack_id == resource.stack.root_stack_id()]
    return all(_stays(resource, row) for row in own)


def _stays(resource: Any, server: Any) -> bool:
    if server.action == resource.DELETE or server.replaced_by is not None:
        return False
    name, stack_id = server.name, server.stack_id
    while stack_id:
        own = stack_id == resource.stack.id
        stack = resource.stack if own else stack_engine.Stack.load(resource.context, stack_id=stack_id)
        if stack.action == stack.DELETE or name not in stack.defn.enabled_rsrc_names():
            return False
        name, stack_id = stack.parent_resource_name, stack.owner_id
    return True


def _around(resource: Any) -> list[Any]:
    rows, owner_id = [], resource.stack.owner_id
    while owner_id:
        row = stack_object.Stack.get_by_id(resource.context, owner_id, show_deleted=True)
        rows.append(row)
        owner_id = row.owner_id
    return rows
