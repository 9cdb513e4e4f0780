# SPDX-License-Identifier: Apache-2.0
"""Building: a request made into the task that is stored."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from heat_workflow import lifecycle, model
from heat_workflow.model import Json, NewTask, Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import requirements

UNGROUPED = "Heat::Ungrouped"
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON: equal for equal content, whatever the order of keys."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()


def fingerprint(tx: Tx, request: NewTask) -> str:
    """What makes two requests the same request; keyed where hidden values are in it."""
    mark = digest({name: value for name, value in vars(request).items() if name != "id"})
    return tx.keyed_digest(mark) if request.spec.get("hidden_inputs") else mark


def hidden_inputs(request: NewTask) -> dict[str, Json]:
    """The values that are kept encrypted: those named as hidden, but for the ones that come from another task."""
    values, names = request.spec.get("input_values"), request.spec.get("hidden_inputs")
    late = {} if request.undo_of is not None else requirements.late_inputs(request.spec)
    hidden = set(names if isinstance(names, list) else ()) - set(late)
    return {name: value for name, value in values.items() if name in hidden} if isinstance(values, dict) else {}


def task_of(tx: Tx, workflow: model.Workflow, request: NewTask, seq: int, pending: int) -> Task:
    capabilities = sorted({*request.capabilities, *([f"server={request.server}"] if request.server else [])})
    pinned = [capability for capability in capabilities if capability.startswith("server=")]
    fanout = request.spec.get("fanout")
    spec: dict[str, Json] = {
        **request.spec,
        "requires": list(request.requires),
        "deadline": request.deadline,
        "server": request.server,
    }
    hidden = hidden_inputs(request)
    if hidden and isinstance(spec["input_values"], dict):
        spec["input_values"] = {**spec["input_values"], **dict.fromkeys(hidden)}
    if request.definition.get("group") == UNGROUPED:
        spec["recorded_only"] = True
    task = Task(
        id=request.id or model.TaskId(str(uuid.uuid4())),
        project_id=workflow.project_id,
        workflow_id=workflow.id,
        seq=seq,
        name=request.name,
        fanout=fanout if isinstance(fanout, str) else None,
        holds_name=request.undo_of is None,
        definition_id=digest(request.definition),
        spec=spec,
        capabilities=capabilities,
        route=(pinned or capabilities or [""])[0],
        action=request.action,
        priority=request.priority,
        fingerprint=fingerprint(tx, request),
        state=TaskState.WAITING,
        status_reason="",
        pending=pending,
        attempt=0,
        attempts_left=request.max_attempts,
        claim_id=None,
        agent_id=None,
        detached=False,
        confirmed=None,
        undo_of=request.undo_of,
        batch=request.batch,
        concurrency_key=request.concurrency_key,
        created_at=tx.now,
        ready_at=None,
        started_at=None,
        finished_at=None,
        not_before=None,
        lease_until=None,
        cancel_until=None,
        deadline_at=None if request.deadline is None else tx.now + request.deadline,
        due_at=None,
    )
    return lifecycle.with_due(task)
