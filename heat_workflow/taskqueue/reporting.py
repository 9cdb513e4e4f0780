# SPDX-License-Identifier: Apache-2.0
"""Reporting: heartbeats and the one outcome of an attempt, fenced by attempt and claim (G5, G6, R1)."""

from __future__ import annotations

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Report, Task, TaskState
from heat_workflow.store import Asks, Tx
from heat_workflow.taskqueue import rewinding, settling

ATTEMPT_MOST = 2**31 - 1  # what the column takes: nothing beyond was ever given out
_LATE_NAMES = 16  # of the outputs of a report that is not recorded


def heartbeat(tx: Tx, agent_id: str, task_id: str, attempt: int, claim_id: str) -> Task:
    """The task with its lease extended; ``cancelling`` tells the agent to end the hook. Conflict if fenced."""
    task = held(tx, agent_id, task_id, attempt, claim_id)
    if task.state is TaskState.CANCELLING:
        return task
    failpoint("heartbeat.held")
    extended = settling.move(tx, task, lifecycle.extended(task, tx.now))
    failpoint("heartbeat.extended")
    return extended


def asks(agent_id: str, task_id: str, said: Report, claim_id: str | None = None) -> Asks:
    """What recording this report is going to look at, with the claim of the next task if there is one."""
    return Asks(agent_id, (task_id, min(said.attempt, ATTEMPT_MOST)), claim_id, _size(said))


def report(tx: Tx, agent_id: str, task_id: str, said: Report) -> Task:
    """The task after the report. The same report again returns what is recorded; any other is a Conflict."""
    seen = _known(tx, agent_id, task_id, said.attempt, said.claim_id)
    if said.attempt > ATTEMPT_MOST:
        raise _fenced(seen, said.attempt)
    # What was seen before the lock may be old: a repeat of this report may have been settled meanwhile (Q2).
    tx.lock_workflow(seen.project_id, seen.workflow_id)
    task = tx.find_task_any_project(task_id) or seen
    recorded = tx.find_attempt(task_id, said.attempt)
    if recorded is not None and recorded.agent_id == agent_id and _same(tx, recorded, said):
        return task
    _refuse_fenced(task, agent_id, said.attempt, said.claim_id)
    _refuse_undeclared(tx, task, said)
    failpoint("report.held")
    hidden = _hidden_outputs(task, said)
    if hidden:
        tx.erase(task, "output")
        tx.seal(task, "output", hidden)
        failpoint("report.sealed")
    after = lifecycle.reported(task, said, tx.now)
    succeeded = said.status is TaskState.SUCCEEDED
    assert recorded is not None  # a leased task has the row of its attempt
    tx.save_attempt(
        model.changed(
            recorded,
            finished_at=tx.now,
            result=said.status.value,
            reason=(lifecycle.success_note if succeeded else lifecycle.failure_reason)(said),
            digest=_mark(tx, said, bool(hidden)),
            deploy_status_code=said.deploy_status_code,
            deploy_stdout=said.deploy_stdout,
            deploy_stderr=said.deploy_stderr,
            outputs={**said.outputs, **dict.fromkeys(hidden)},
        )
    )
    failpoint("report.recorded")
    tx.grow(task.workflow_id, _size(said))
    settled = settling.move(tx, task, after)
    failpoint("report.settled")
    return settled


def late(said: Report) -> dict[str, model.Json]:
    """What is kept of a report that is not recorded: enough for a person to see what happened, no values."""
    names: list[model.Json] = [*sorted(said.outputs)[:_LATE_NAMES]]
    return {
        "attempt": said.attempt,
        "claim_id": said.claim_id,
        "status": said.status.value,
        "deploy_status_code": said.deploy_status_code,
        "reason": "" if said.status is TaskState.SUCCEEDED else lifecycle.failure_reason(said),
        "outputs": names,
        "digest": said.digest,
    }


def _size(said: Report) -> int:
    """About how many bytes the report takes to keep."""
    return len(said.deploy_stdout) + len(said.deploy_stderr) + sum(len(str(value)) for value in said.outputs.values())


def _same(tx: Tx, recorded: model.Attempt, said: Report) -> bool:
    if recorded.digest is None or recorded.claim_id != said.claim_id:
        return False
    return recorded.digest in (_mark(tx, said, False), _mark(tx, said, True))


def _mark(tx: Tx, said: Report, hides: bool) -> str:
    """What is kept to recognise the report again: keyed if hidden values are in it."""
    return tx.keyed_digest(said.digest) if hides else said.digest


def _hidden_outputs(task: Task, said: Report) -> dict[str, model.Json]:
    names = task.spec.get("hidden_outputs")
    covered = {str(name) for name in names} if isinstance(names, list) else set()
    return {name: value for name, value in said.outputs.items() if name in covered}


def held(tx: Tx, agent_id: str, task_id: str, attempt: int, claim_id: str) -> Task:
    """The task while this agent holds exactly this lease; NotFound if it never did, Conflict if it is fenced."""
    task = _known(tx, agent_id, task_id, attempt, claim_id)
    _refuse_fenced(task, agent_id, attempt, claim_id)
    return task


def _known(tx: Tx, agent_id: str, task_id: str, attempt: int, claim_id: str) -> Task:
    """The task, if this agent holds a lease of it or ever did; else NotFound."""
    task = tx.find_task_any_project(task_id)
    if task is not None and task.attempt < attempt <= ATTEMPT_MOST:
        task = rewinding.remembered(tx, task, agent_id, attempt, claim_id)
    if task is not None and (
        task.agent_id == agent_id or any(a.agent_id == agent_id for a in tx.list_attempts(task_id))
    ):
        return task
    raise errors.NotFound(f"task {task_id} is not known to this agent", code="task-not-found")


def _fenced(task: Task, attempt: int) -> errors.Conflict:
    return errors.Conflict(f"task {task.id}: attempt {attempt} of this claim is over", code="fenced")


def _refuse_fenced(task: Task, agent_id: str, attempt: int, claim_id: str) -> None:
    lease = (task.agent_id, task.attempt, task.claim_id)
    if lease != (agent_id, attempt, claim_id) or task.state not in model.HELD:
        raise _fenced(task, attempt)


def _refuse_undeclared(tx: Tx, task: Task, said: Report) -> None:
    if not said.outputs:
        return
    declared = {output["name"] for output in tx.get_definition(task.project_id, task.definition_id)["outputs"]}
    unknown = sorted(set(said.outputs) - declared)
    if unknown:
        raise errors.Invalid(f"task {task.id} declares no output {', '.join(unknown)}", code="undeclared-output")
