# SPDX-License-Identifier: Apache-2.0
"""Reporting: heartbeats and the one outcome of an attempt, fenced by attempt and claim (G5, G6, R1)."""

from __future__ import annotations

import dataclasses

from heat_workflow import errors, lifecycle, model
from heat_workflow.model import Report, Task, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import settling


def heartbeat(tx: Tx, agent_id: str, task_id: str, attempt: int, claim_id: str) -> Task:
    """The task with its lease extended; ``cancelling`` tells the agent to end the hook. Conflict if fenced."""
    task = held(tx, agent_id, task_id, attempt, claim_id)
    return task if task.state is TaskState.CANCELLING else settling.move(tx, task, lifecycle.extended(task, tx.now))


def report(tx: Tx, agent_id: str, task_id: str, said: Report) -> Task:
    """The task after the report. The same report again returns what is recorded; any other is a Conflict."""
    recorded = tx.find_attempt(task_id, said.attempt)
    if recorded is not None and recorded.agent_id == agent_id and _same(tx, recorded, said):
        task = tx.find_task_any_project(task_id)
        if task is not None:
            return task
    task = held(tx, agent_id, task_id, said.attempt, said.claim_id)
    _refuse_undeclared(tx, task, said)
    hidden = _hidden_outputs(task, said)
    if hidden:
        tx.erase(task, "output")
        tx.seal(task, "output", hidden)
    after = lifecycle.reported(task, said, tx.now)
    attempt = tx.find_attempt(task_id, said.attempt)
    assert attempt is not None  # a leased task has the row of its attempt
    tx.save_attempt(
        dataclasses.replace(
            attempt,
            finished_at=tx.now,
            result=said.status.value,
            reason="" if said.status is TaskState.SUCCEEDED else lifecycle.failure_reason(said),
            digest=_mark(tx, said, bool(hidden)),
            deploy_status_code=said.deploy_status_code,
            deploy_stdout=said.deploy_stdout,
            deploy_stderr=said.deploy_stderr,
            outputs={**said.outputs, **dict.fromkeys(hidden)},
        )
    )
    return settling.move(tx, task, after)


def _same(tx: Tx, recorded: model.Attempt, said: Report) -> bool:
    marks = (_mark(tx, said, False), _mark(tx, said, True))
    return recorded.claim_id == said.claim_id and recorded.digest in marks


def _mark(tx: Tx, said: Report, hides: bool) -> str:
    """What is kept to recognise the report again: keyed if hidden values are in it."""
    return tx.keyed_digest(said.digest) if hides else said.digest


def _hidden_outputs(task: Task, said: Report) -> dict[str, model.Json]:
    names = task.spec.get("hidden_outputs")
    covered = {str(name) for name in names} if isinstance(names, list) else set()
    return {name: value for name, value in said.outputs.items() if name in covered}


def held(tx: Tx, agent_id: str, task_id: str, attempt: int, claim_id: str) -> Task:
    """The task while this agent holds exactly this lease; NotFound if it never did, Conflict if it is fenced."""
    task = tx.find_task_any_project(task_id)
    known = task is not None and task.agent_id == agent_id
    if task is None or not (known or any(a.agent_id == agent_id for a in tx.list_attempts(task_id))):
        raise errors.NotFound(f"task {task_id} is not known to this agent", code="task-not-found")
    if not known or task.attempt != attempt or task.claim_id != claim_id or task.state not in model.HELD:
        raise errors.Conflict(f"task {task_id}: attempt {attempt} of this claim is over", code="fenced")
    return task


def _refuse_undeclared(tx: Tx, task: Task, said: Report) -> None:
    declared = {output["name"] for output in tx.get_definition(task.project_id, task.definition_id)["outputs"]}
    unknown = sorted(set(said.outputs) - declared)
    if unknown:
        raise errors.Invalid(f"task {task.id} declares no output {', '.join(unknown)}", code="undeclared-output")
