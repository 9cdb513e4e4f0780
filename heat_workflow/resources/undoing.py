# SPDX-License-Identifier: Apache-2.0
"""Undo: whether a task that goes leaves a living server behind, and which task of a replaced resource to take back.

Heat cleans up a replaced resource after its replacement was made. On one server that would take back what the new
task has just done. So the replacement takes the old task back first, and leaves a mark that the cleanup finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heat.common import exception
from heat.engine import stack as stack_engine
from heat.objects import resource as resource_object
from heat.objects import stack as stack_object

from heat_workflow.resources.runs import DATA_KEY, Runs, parse_runs

TOOK_BACK = "heat_workflow_took_back"  # in a replacement's data: it has the replaced resource's task taken back


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


def find_replaced(resource: Any) -> tuple[Runs, Mapping[str, Any]] | None:
    """The runs and properties of the resource that this one replaces, None if there is none that ran tasks."""
    row = _find_row(resource, resource.replaces)
    runs = _runs_of(row)
    return None if row is None or runs is None else (runs, row.properties_data or {})


def find_replacement(resource: Any, row_id: int | None) -> Runs | None:
    """The runs of the resource that replaced this one and took its task back, None if it did not."""
    row = _find_row(resource, row_id)
    if row is None or TOOK_BACK not in {item.key for item in row.data}:
        return None
    return _runs_of(row) or Runs("")


def _find_row(resource: Any, row_id: int | None) -> Any:
    if row_id is None:
        return None
    try:
        return resource_object.Resource.get_obj(resource.context, row_id, refresh=True)
    except exception.NotFound:
        return None


def _runs_of(row: Any) -> Runs | None:
    texts = [item.value for item in row.data if item.key == DATA_KEY] if row is not None else []
    return parse_runs(texts[0], row.physical_resource_id) if texts else None
