# SPDX-License-Identifier: Apache-2.0
"""Rows: how a frozen fact of the model is written as a row and read back."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from heat_workflow import model
from heat_workflow.store import tables

Row = Mapping[str, Any]
Fact = TypeVar("Fact")
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_TASK_STATES = {state.value: state for state in model.TaskState}


def _made(kind: type[Fact], fields: Mapping[str, Any]) -> Fact:
    """The fact with these fields, without the forty calls of a frozen dataclass's own making."""
    fact = object.__new__(kind)
    vars(fact).update(fields)
    return fact


@functools.lru_cache(4096)
def _shared(text: str) -> Any:
    """What the text says. For small values that stand in many rows; nobody changes what a fact holds."""
    return json.loads(text)


def dump(value: Any) -> str:
    """JSON text; keys keep their order, so that what was stored comes back as it was sent."""
    return _ENCODER.encode(value)


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def plain(value: Any) -> Any:
    """The value as its column takes it: words of ours for states, 0 and 1 for flags."""
    if isinstance(value, bool):
        return int(value)
    return value.value if isinstance(value, enum.Enum) else value


def columns(table: Any) -> tuple[str, ...]:
    """The table's column names in the order in which ``select(table)`` gives them."""
    return tuple(column.name for column in table.columns)


WORKFLOW = columns(tables.workflow)
TASK = columns(tables.task)
ATTEMPT = columns(tables.attempt)
AGENT = columns(tables.agent)


def workflow_row(workflow: model.Workflow) -> dict[str, Any]:
    return {
        **vars(workflow),
        "tags": dump(workflow.tags),
        "state": workflow.state.value,
        "sealed": int(workflow.sealed),
        "task_count": 0,
        "byte_count": 0,
    }


def workflow_of(row: Sequence[Any]) -> model.Workflow:
    fields = dict(zip(WORKFLOW, row, strict=True))
    fields["tags"] = _shared(fields["tags"])
    fields["state"] = model.WorkflowState(fields["state"])
    fields["sealed"] = bool(fields["sealed"])
    del fields["task_count"], fields["byte_count"]
    return _made(model.Workflow, fields)


def task_row(task: model.Task) -> dict[str, Any]:
    row = {
        **vars(task),
        "holds_name": int(task.holds_name),
        "spec": dump(task.spec),
        "capabilities": dump(task.capabilities),
        "rank": -task.priority,
        "state": task.state.value,
        "detached": int(task.detached),
        "confirmed": _flag(task.confirmed),
    }
    del row["priority"]
    return row


def task_of(row: Sequence[Any]) -> model.Task:
    fields = dict(zip(TASK, row, strict=True))
    fields["holds_name"] = bool(fields["holds_name"])
    fields["spec"] = json.loads(fields["spec"])
    fields["capabilities"] = _shared(fields["capabilities"])
    fields["priority"] = -fields.pop("rank")
    fields["state"] = _TASK_STATES[fields["state"]]
    fields["detached"] = bool(fields["detached"])
    fields["confirmed"] = None if fields["confirmed"] is None else bool(fields["confirmed"])
    return _made(model.Task, fields)


def attempt_row(attempt: model.Attempt) -> dict[str, Any]:
    return {**vars(attempt), "outputs": dump(attempt.outputs)}


def attempt_of(row: Sequence[Any]) -> model.Attempt:
    fields = dict(zip(ATTEMPT, row, strict=True))
    fields["outputs"] = json.loads(fields["outputs"])
    return _made(model.Attempt, fields)


def agent_row(agent: model.Agent) -> dict[str, Any]:
    return {
        **vars(agent),
        "capabilities": dump(agent.capabilities),
        "heat": None if agent.heat is None else dump(agent.heat),
        "state": agent.state.value,
        "draining": int(agent.draining),
        "inventory": dump(agent.inventory),
        "old_hashes": dump(agent.old_hashes),
    }


def agent_of(row: Sequence[Any]) -> model.Agent:
    fields = dict(zip(AGENT, row, strict=True))
    fields["capabilities"] = _shared(fields["capabilities"])
    fields["heat"] = None if fields["heat"] is None else _shared(fields["heat"])
    fields["state"] = model.AgentState(fields["state"])
    fields["draining"] = bool(fields["draining"])
    fields["inventory"] = _shared(fields["inventory"])
    fields["old_hashes"] = _shared(fields["old_hashes"])
    return _made(model.Agent, fields)
