# SPDX-License-Identifier: Apache-2.0
"""Lifecycle: what becomes of a task at each turn, decided without I/O; the store only carries it out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from heat_workflow import errors
from heat_workflow.model import (
    CANCEL_GRACE,
    FINISHED,
    HEARTBEAT_INTERVAL,
    LEASE,
    MOVES,
    REPORT_MARGIN,
    RETRY_DELAY_MOST,
    UNFINISHED,
    AgentId,
    ClaimId,
    Report,
    Task,
    TaskState,
    WorkflowState,
    changed,
)

_S = TaskState
_BARE = re.compile(  # how agents of a release before say that a hook failed, and no more
    r"(?:the script|ansible-playbook|puppet apply|the hook) "
    r"(?:ended with exit status|answered with the status code) -?\d+(?: \(killed by [\w ]+\))?"
)


def check_move(task: Task, to: TaskState) -> None:
    """Raise Conflict unless the table lets the task go there."""
    if to not in MOVES[task.state]:
        raise errors.Conflict(
            f"task {task.name} ({task.id}) is {task.state.value}; it cannot become {to.value}", code="state"
        )


def with_due(task: Task) -> Task:
    """The task with ``due_at``: the next moment at which the passing of time alone changes it."""
    moments: list[float | None] = []
    if task.state is _S.WAITING:
        moments = [task.not_before if task.pending == 0 else None, task.deadline_at]
    elif task.state is _S.READY:
        pickup = task.number("pickup_timeout")
        moments = [_after(task.ready_at, pickup), task.deadline_at]
    elif task.state is _S.LEASED:
        moments = [task.lease_until, _run_end(task), task.deadline_at]
    elif task.state is _S.STALLED:
        moments = [_run_end(task), task.deadline_at]
    elif task.state is _S.CANCELLING:
        moments = [task.cancel_until]
    known = [moment for moment in moments if moment is not None]
    return changed(task, due_at=min(known) if known else None)


def moved(task: Task, to: TaskState, now: float, **changes: object) -> Task:
    """The task in its new state, with the times that belong to the move."""
    check_move(task, to)
    if to is _S.READY:
        changes = {"ready_at": now, "not_before": None, "status_reason": "", **changes}
    if to in FINISHED and to is not _S.UNDONE:
        changes = {"finished_at": now, "lease_until": None, "cancel_until": None, **changes}
    return with_due(changed(task, state=to, **changes))


def claimed(task: Task, agent_id: AgentId, claim_id: ClaimId, now: float) -> Task:
    """The task leased to the agent under the next attempt number (G3)."""
    return moved(
        task,
        _S.LEASED,
        now,
        attempt=task.attempt + 1,
        attempts_left=task.attempts_left - 1,
        agent_id=agent_id,
        claim_id=claim_id,
        started_at=now,
        lease_until=now + LEASE,
    )


def extended(task: Task, now: float) -> Task:
    """The task with a lease counted from now; a stalled one is leased again under the same attempt (G5)."""
    if task.state is _S.STALLED:
        return moved(task, _S.LEASED, now, lease_until=now + LEASE, status_reason="")
    return with_due(changed(task, lease_until=now + LEASE))


def reported(task: Task, report: Report, now: float) -> Task:
    """The task after its agent's word: finished, or waiting for its next attempt."""
    if report.status is _S.CANCELLED and task.state is not _S.CANCELLING:
        raise errors.Invalid(f"task {task.id} was not asked to cancel; report succeeded, failed or timed_out")
    if report.status is _S.SUCCEEDED:
        return moved(task, _S.SUCCEEDED, now, status_reason=success_note(report))
    if task.state is _S.CANCELLING:
        if report.status is _S.CANCELLED:
            return moved(task, _S.CANCELLED, now, confirmed=True, status_reason=task.status_reason)
        return moved(task, _S.FAILED, now, status_reason=failure_reason(report))
    return _failed_attempt(task, report.status, failure_reason(report), now)


def _failed_attempt(task: Task, to: TaskState, reason: str, now: float) -> Task:
    if task.attempts_left <= 0:
        return moved(task, to, now, status_reason=reason)
    delay = min((task.number("retry_delay") or 0.0) * 2 ** (task.attempt - 1), RETRY_DELAY_MOST)
    reason = f"attempt {task.attempt} {to.value}: {reason}"
    return moved(task, _S.WAITING, now, not_before=now + delay, lease_until=None, status_reason=reason)


def success_note(report: Report) -> str:
    """What the agent has to say about a success: an output too large to be kept, an input that did not fit."""
    return errors.printable(report.reason or "")[:1024]


def failure_reason(report: Report) -> str:
    """One line for people: the agent's reason; from an agent that gives none, or no more than the exit code, the exit
    code with the last line of stderr, else of stdout."""
    if report.reason and not _BARE.fullmatch(report.reason):
        return errors.printable(report.reason)[:1024]
    last = _last_line(report.deploy_stderr) or _last_line(report.deploy_stdout)
    code = f"exit code {report.deploy_status_code}"
    return f"{code}: {errors.printable(last)}"[:1024] if last else report.reason or code


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def cancel_requested(task: Task, now: float, reason: str) -> Task:
    """The task after a cancel: gone at once unless an agent may be running it (G8). Finished ones stay."""
    if task.finished or task.state is _S.CANCELLING:
        return task
    if task.state in (_S.WAITING, _S.READY):
        return moved(task, _S.CANCELLED, now, status_reason=reason, confirmed=True)
    until = now + HEARTBEAT_INTERVAL + CANCEL_GRACE + REPORT_MARGIN
    return moved(task, _S.CANCELLING, now, status_reason=reason, cancel_until=until)


def overdue(task: Task, now: float) -> Task | None:
    """What time alone makes of the task, None if nothing is due. The caller repeats until None."""
    if task.due_at is None or task.due_at > now:
        return None
    if task.state is _S.CANCELLING:
        reason = f"{task.status_reason}; agent {task.agent_id} did not confirm: the guest may still be running it"
        return moved(task, _S.CANCELLED, now, confirmed=False, status_reason=reason)
    if task.deadline_at is not None and task.deadline_at <= now:
        reason = f"deadline of {task.number('deadline') or 0:g} s passed while {task.state.value}"
        return moved(task, _S.TIMED_OUT, now, status_reason=reason)
    if task.state is _S.WAITING:
        return moved(task, _S.READY, now)
    if task.state is _S.READY:
        reason = f"no agent picked it up within {task.number('pickup_timeout') or 0:g} s (pickup_timeout)"
        return moved(task, _S.TIMED_OUT, now, status_reason=reason)
    run_end = _run_end(task)
    if run_end is not None and run_end <= now:
        reason = f"no word from agent {task.agent_id} by the end of the timeout of {task.number('timeout') or 0:g} s"
        return _failed_attempt(task, _S.TIMED_OUT, reason, now)
    return stalled(task, now)


def stalled(task: Task, now: float) -> Task:
    """The task whose heartbeats are missing: pinned to a server it may come back, from a pool it is tried again."""
    reason = f"no heartbeat from agent {task.agent_id} for {LEASE:g} s"
    pinned = any(capability.startswith("server=") for capability in task.capabilities)
    if pinned or task.attempts_left <= 0:
        return moved(task, _S.STALLED, now, status_reason=reason, lease_until=None)
    return _failed_attempt(task, _S.TIMED_OUT, reason, now)


def requirement_outcome(state: TaskState) -> bool | None:
    """Whether a requirement in this state lets its dependants run: True, never (False), not yet (None)."""
    if state is _S.SUCCEEDED:
        return True
    return False if state in FINISHED else None


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str] | None:
    """One cycle of ``name -> the names it requires``, first name repeated at the end; None if there is none."""
    done: set[str] = set()
    for root in edges:
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(name)
                done.add(name)
                continue
            if name in on_path:
                return [*path[path.index(name) :], name]
            if name in done or name not in edges:
                continue
            path.append(name)
            on_path.add(name)
            stack.append((name, True))
            stack.extend((required, False) for required in edges[name])
    return None


def sealed_outcome(states: Iterable[TaskState]) -> WorkflowState | None:
    """The state a sealed workflow ends in, None while a task is unfinished."""
    seen = set(states)
    if seen & UNFINISHED:
        return None
    if seen & {_S.FAILED, _S.TIMED_OUT}:
        return WorkflowState.FAILED
    if seen & {_S.CANCELLED, _S.SKIPPED}:
        return WorkflowState.CANCELLED
    return WorkflowState.SUCCEEDED


def _after(moment: float | None, seconds: float | None) -> float | None:
    return None if moment is None or seconds is None else moment + seconds


def _run_end(task: Task) -> float | None:
    return _after(_after(task.started_at, task.number("timeout")), REPORT_MARGIN)
