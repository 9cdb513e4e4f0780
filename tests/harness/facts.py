# SPDX-License-Identifier: Apache-2.0
"""Harness: facts of the model with every field filled in, for tests that speak to the store itself."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, TypeVar

from heat_workflow import model

T = TypeVar("T")
PROJECT = "p1"
DEFINITION: dict[str, model.Json] = {
    "group": "script",
    "config": "true",
    "options": {},
    "inputs": [],
    "outputs": [{"name": "y"}],
}
DEFINITION_ID = "d" * 64
NOON = 1_700_000_000.25


def new_id() -> Any:
    """An id of any kind."""
    return str(uuid.uuid4())


def _filled(kind: type[T], defaults: dict[str, Any], changes: dict[str, Any]) -> T:
    """The fact with what is given, else the default, else None."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**dict.fromkeys(names) | defaults | changes)


def workflow(**changes: Any) -> model.Workflow:
    defaults = {
        "id": new_id(),
        "project_id": PROJECT,
        "name": "w",
        "tags": [],
        "state": model.WorkflowState.ACTIVE,
        "sealed": False,
        "on_failure": "stop",
        "fingerprint": "f",
        "event_seq": 0,
        "created_at": NOON,
    }
    return _filled(model.Workflow, defaults, changes)


def task(owner: model.Workflow, seq: int = 1, **changes: Any) -> model.Task:
    """A ready task of the workflow for anybody."""
    defaults = {
        "id": new_id(),
        "project_id": owner.project_id,
        "workflow_id": owner.id,
        "seq": seq,
        "name": f"t{seq}",
        "holds_name": True,
        "definition_id": DEFINITION_ID,
        "spec": {},
        "capabilities": [],
        "route": "",
        "action": "CREATE",
        "priority": 0,
        "fingerprint": "f",
        "state": model.TaskState.READY,
        "status_reason": "",
        "pending": 0,
        "attempt": 0,
        "attempts_left": 1,
        "detached": False,
        "created_at": NOON,
        "ready_at": NOON + seq,
    }
    return _filled(model.Task, defaults, changes)


def agent(**changes: Any) -> model.Agent:
    """An active agent without capabilities."""
    defaults = {
        "id": new_id(),
        "project_id": PROJECT,
        "name": "agent",
        "capabilities": [],
        "state": model.AgentState.ACTIVE,
        "draining": False,
        "fingerprint": "f",
        "cred_gen": 1,
        "old_hashes": [],
        "inventory": {},
        "created_at": NOON,
    }
    return _filled(model.Agent, defaults, changes)


def attempt(of: model.Task, **changes: Any) -> model.Attempt:
    """The attempt the task stands at."""
    defaults: dict[str, Any] = {
        "task_id": of.id,
        "attempt": of.attempt,
        "agent_id": of.agent_id or new_id(),
        "claim_id": of.claim_id or new_id(),
        "claimed_at": NOON,
        "reason": "",
        "deploy_stdout": "",
        "deploy_stderr": "",
        "outputs": {},
    }
    return _filled(model.Attempt, defaults, changes)
