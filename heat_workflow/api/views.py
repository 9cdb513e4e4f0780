# SPDX-License-Identifier: Apache-2.0
"""Views: facts as the JSON that callers see. The one place where hidden values are masked."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from heat_workflow.model import LEASE, Agent, Attempt, Event, Json, Task, Workflow
from heat_workflow.taskqueue.claiming import Claimed
from heat_workflow.taskqueue.looking import Details
from heat_workflow.taskqueue.sessions import CLAIMS_WITH_NONCE

MASK = "******"


def time(seconds: float | None) -> str | None:
    """ISO 8601 in UTC with microseconds."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat().replace("+00:00", "Z")


def workflow(shown: Workflow, counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": shown.id,
        "name": shown.name,
        "tags": list(shown.tags),
        "state": shown.state.value,
        "sealed": shown.sealed,
        "on_failure": shown.on_failure,
        "created_at": time(shown.created_at),
        "finished_at": time(shown.finished_at),
    }
    if counts is not None:
        view["counts"] = dict(counts)
    return view


def task(details: Details, *, reveal: bool = False) -> dict[str, Any]:
    """``reveal`` shows hidden outputs, for a caller whose policy allows it; hidden inputs are never shown."""
    shown, attempt = details.task, details.attempt
    spec = dict(shown.spec)
    spec.pop("recorded_only", None)
    outputs: Mapping[str, Json] = attempt.outputs if attempt is not None else {}
    view: dict[str, Any] = {
        **spec,
        "id": shown.id,
        "workflow_id": shown.workflow_id,
        "name": shown.name,
        "input_values": masked(spec.get("input_values"), spec.get("hidden_inputs")),
        "environment_inputs": spec.get("environment_inputs", []),
        "capabilities": list(shown.capabilities),
        "fanout": shown.fanout,
        "action": shown.action,
        "priority": shown.priority,
        "concurrency_key": shown.concurrency_key,
        "state": shown.state.value,
        "status_reason": shown.status_reason,
        "outputs": dict(outputs) if reveal else masked(outputs, spec.get("hidden_outputs")),
        "deploy_stdout": None if attempt is None else attempt.deploy_stdout,
        "deploy_stderr": None if attempt is None else attempt.deploy_stderr,
        "deploy_status_code": None if attempt is None else attempt.deploy_status_code,
        "attempt": shown.attempt,
        "agent_id": shown.agent_id,
        "waiting_for": details.waiting_for,
        "detached": shown.detached,
        "confirmed": shown.confirmed,
        "undo_of": shown.undo_of,
    }
    for name in ("created_at", "ready_at", "started_at", "finished_at"):
        view[name] = time(getattr(shown, name))
    if details.definition is not None:
        view["definition"] = details.definition
    return view


def brief(shown: Task) -> dict[str, Any]:
    """One of many tasks that a request was about: which it is and how it stands, without what its caller sent, so that
    the answer about a fan-out is no multiple of the request."""
    return {
        "id": shown.id,
        "workflow_id": shown.workflow_id,
        "name": shown.name,
        "fanout": shown.fanout,
        "server": shown.spec.get("server"),
        "action": shown.action,
        "state": shown.state.value,
        "attempt": shown.attempt,
        "agent_id": shown.agent_id,
        "detached": shown.detached,
        "confirmed": shown.confirmed,
        "undo_of": shown.undo_of,
        "created_at": time(shown.created_at),
    }


def masked(values: Any, hidden: Any) -> dict[str, Any]:
    """The values with those named by ``hidden`` covered."""
    covered = set(hidden) if isinstance(hidden, list) else set()
    return {name: MASK if name in covered else value for name, value in (values or {}).items()}


def claimed(given: Claimed) -> dict[str, Any]:
    """A task as its lease holder gets it: the only place where hidden inputs appear."""
    shown = given.task
    spec = shown.spec
    return {
        "id": shown.id,
        "workflow_id": shown.workflow_id,
        "name": shown.name,
        "action": shown.action,
        "attempt": shown.attempt,
        "claim_id": shown.claim_id,
        "lease": LEASE,
        "timeout": spec.get("timeout"),
        "deadline_in": given.deadline_in,
        "definition": given.definition,
        "input_values": given.input_values,
        "hidden_inputs": spec.get("hidden_inputs", []),
        "hidden_outputs": spec.get("hidden_outputs", []),
        "environment_inputs": spec.get("environment_inputs", []),
        "run_as": spec.get("run_as"),
        "on_interrupt": spec.get("on_interrupt", "fail"),
        "server": spec.get("server"),
        "heat": spec.get("heat"),
    }


def agent(shown: Agent, running: list[str]) -> dict[str, Any]:
    return {
        "id": shown.id,
        "name": shown.name,
        "state": shown.state.value,
        "draining": shown.draining,
        "capabilities": list(shown.capabilities),
        "server": shown.server,
        "heat": shown.heat,
        "version": shown.version,
        "os": shown.inventory.get("os"),
        "inventory": {name: value for name, value in shown.inventory.items() if name != CLAIMS_WITH_NONCE},
        "created_at": time(shown.created_at),
        "enrolled_at": time(shown.join_used_at),
        "last_seen_at": time(shown.last_seen_at),
        "join_expires_at": time(shown.join_expires_at),
        "running_tasks": running,
    }


def attempt(shown: Attempt, hidden_outputs: Any) -> dict[str, Any]:
    return {
        "attempt": shown.attempt,
        "agent_id": shown.agent_id,
        "claimed_at": time(shown.claimed_at),
        "finished_at": time(shown.finished_at),
        "result": shown.result,
        "reason": shown.reason,
        "deploy_status_code": shown.deploy_status_code,
        "deploy_stdout": shown.deploy_stdout,
        "deploy_stderr": shown.deploy_stderr,
        "outputs": masked(shown.outputs, hidden_outputs),
    }


def late_report(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {"at": time(shown["at"]), "agent_id": shown["agent_id"], **shown["body"]["report"]}


def event(shown: Event) -> dict[str, Any]:
    return {
        "seq": shown.seq,
        "at": time(shown.at),
        "type": shown.type,
        "task_id": shown.task_id,
        "body": dict(shown.body),
    }


def agent_event(seq: int, shown: Mapping[str, Any]) -> dict[str, Any]:
    return {"seq": seq, "at": time(shown["at"]), "type": shown["type"], "body": shown["body"]}
