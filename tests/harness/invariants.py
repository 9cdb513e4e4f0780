# SPDX-License-Identifier: Apache-2.0
"""Harness: the invariants I1 to I8, judged from what clients heard and what the database holds.

``check`` reads both and raises with every violation explained; it knows nothing of how the service works.
"""

from __future__ import annotations

import collections
import itertools
import json
import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from heat_workflow.model import FINISHED, HELD, MOVES, WORKFLOW_FINISHED, TaskState, WorkflowState
from tests.harness.history import History, Said, Start, Told, content
from tests.harness.kept import Kept, Row

CANARY = re.compile(r"canary-([0-9a-f-]{36})")
_S = TaskState


def check(history: History, url: str, project: str, *, over: bool = True) -> Told:
    """The history, when it and the database agree with every invariant; ``over``: nothing may be unfinished (I8)."""
    told, kept = Told(history), Kept(url, project)
    violations = list(violated(told, kept, over=over))
    assert not violations, f"{len(violations)} violations:\n" + "\n".join(violations[:20])
    return told


def violated(told: Told, kept: Kept, *, over: bool) -> Iterator[str]:
    """Every violation, in words."""
    yield from (f"I1 {v}" for v in _acked_adds_exist(told, kept))
    yield from (f"I2 {v}" for v in _one_lease(told, kept))
    yield from (f"I3 {v}" for v in _starts_once(told, kept))
    yield from (f"I4 {v}" for v in _one_outcome(told, kept))
    yield from (f"I5 {v}" for v in _order_kept(told, kept))
    yield from (f"I6 {v}" for v in _reports_stay(told, kept))
    yield from (f"I7 {v}" for v in _inputs_private(told, kept))
    if over:
        yield from (f"I8 {v}" for v in _all_over(kept))
    yield from (f"moves: {v}" for v in _legal_moves(kept))


def agree(kept: Kept) -> Iterator[str]:
    """The violations that the database shows by itself, once everything is over."""
    yield from (f"I4 {v}" for v in _successes_once(kept))
    yield from (f"I5 {v}" for v in _leased_in_order(kept))
    yield from (f"I8 {v}" for v in _all_over(kept))
    yield from (f"moves: {v}" for v in _legal_moves(kept))


def _deleted(told: Told) -> set[str]:
    """Workflows that somebody asked to delete: they may be there or not."""
    calls = (c for c in told.calls if c.method == "DELETE" and re.fullmatch(r"/v1/workflows/[0-9a-f-]{36}", c.path))
    return {call.path.split("/")[3] for call in calls}


def _acked_adds_exist(told: Told, kept: Kept) -> Iterator[str]:
    gone = _deleted(told)
    for call in told.acknowledged:
        parts = call.path.split("/")
        if call.method not in ("PUT", "POST") or parts[1:3] != ["v1", "workflows"] or len(parts) > 6:
            continue
        if len(parts) <= 4:
            workflow_id = call.answer["id"]
            if workflow_id not in kept.workflows and workflow_id not in gone:
                yield f"workflow {workflow_id} was acknowledged and is not there"
            continue
        if parts[4] != "tasks" or parts[3] in gone:
            continue
        for task in call.answer.get("tasks", [call.answer]):
            if task["id"] not in kept.tasks:
                yield f"task {task['id']} of workflow {parts[3]} was acknowledged and is not there"


def _one_lease(told: Told, kept: Kept) -> Iterator[str]:
    by_claim: dict[tuple[str, str], set[tuple[str, int]]] = collections.defaultdict(set)
    gone = _deleted(told)
    known = {lease for lease in told.leases() if lease.task_id in kept.tasks or not gone}
    for lease in known:
        by_claim[lease.who, lease.asked].add((lease.task_id, lease.attempt))
        row = kept.attempts.get((lease.task_id, lease.attempt))
        if row is None:
            yield f"task {lease.task_id}: attempt {lease.attempt} was handed out and is not recorded"
        elif (row["agent_id"], row["claim_id"]) != (lease.who, lease.claim_id):
            yield f"task {lease.task_id}: attempt {lease.attempt} was handed to {lease.who} and is {row['agent_id']}'s"
    for (who, claim_id), tasks in by_claim.items():
        if len(tasks) > 1:
            yield f"claim {claim_id} of agent {who} gave several leases: {sorted(tasks)}"
    for task_id, attempts in kept.attempts_of.items():
        numbers = [row["attempt"] for row in attempts]
        if numbers != list(range(1, kept.tasks[task_id]["attempt"] + 1)):
            yield f"task {task_id} stands at attempt {kept.tasks[task_id]['attempt']} and has attempts {numbers}"
        for one, following in itertools.pairwise(attempts):
            if following["claimed_at"] < one["claimed_at"]:
                yield f"task {task_id}: attempt {following['attempt']} is older than the one before it"
    for task_id, events in kept.moves.items():
        last = 0
        for before, event in itertools.pairwise(events):
            if event["body"]["state"] != _S.LEASED.value:
                continue
            number = event["body"]["attempt"]
            back = before["body"]["state"] == _S.STALLED.value
            if number != (last if back else last + 1):
                yield f"task {task_id}: lease of attempt {number} after attempt {last} ({before['body']['state']})"
            last = number


def _starts_once(told: Told, kept: Kept) -> Iterator[str]:
    times = collections.Counter((start.task_id, start.attempt) for start in told.starts)
    for (task_id, attempt), count in times.items():
        if count > 1:
            yield f"task {task_id}: attempt {attempt} was started {count} times"
    for task_id, count in collections.Counter(start.task_id for start in told.starts).items():
        if task_id not in kept.tasks:
            continue
        most = kept.spec(task_id).get("max_attempts") or 1
        budget = most * (1 + kept.reopened(task_id))
        if count > budget:
            yield f"task {task_id} was started {count} times, its attempts are {budget}"


def _one_outcome(told: Told, kept: Kept) -> Iterator[str]:
    said: dict[tuple[str, int], set[tuple[str, str, str, str]]] = collections.defaultdict(set)
    for report in told.reports():
        kept_content = _as_kept(kept, report)
        said[report.task_id, report.attempt].add((report.who, report.claim_id, report.status, kept_content))
    for (task_id, attempt), row in kept.attempts.items():
        if row["digest"] is None:
            continue
        recorded = (row["agent_id"], row["claim_id"], row["result"], _content_of(row))
        if recorded not in said[task_id, attempt]:
            yield f"task {task_id}: attempt {attempt} records {recorded}, which its agent never reported"
    ended = {state.value for state in FINISHED - {_S.UNDONE}}
    for task_id, task in kept.tasks.items():
        ends = [event for event in kept.moves.get(task_id, ()) if event["body"]["state"] in ended]
        due = kept.reopened(task_id) + (task["state"] in ended or task["state"] == _S.UNDONE.value)
        if len(ends) != due:
            yield f"task {task_id} came to an end {len(ends)} times instead of {due}"
        yield from _outcome_is_founded(told, kept, task)
    yield from _successes_once(kept)


def _outcome_is_founded(told: Told, kept: Kept, task: Row) -> Iterator[str]:
    """A success or failure is its agent's word; a cancel is an operator's."""
    state, spec = task["state"], json.loads(task["spec"])
    row = kept.attempts.get((task["id"], task["attempt"]))
    if state == _S.SUCCEEDED.value and not spec.get("recorded_only"):
        if row is None or row["result"] != state:
            yield f"task {task['id']} succeeded without a report of attempt {task['attempt']}"
    elif (
        state == _S.FAILED.value and (row is None or row["result"] != state) and "revoked" not in task["status_reason"]
    ):
        yield f"task {task['id']} failed without a report of attempt {task['attempt']}: {task['status_reason']}"
    elif state == _S.CANCELLED.value:
        place = f"/v1/workflows/{task['workflow_id']}"
        paths = {f"{place}/cancel", f"{place}/undo", place, f"{place}/tasks/{task['id']}"}
        paths.add(f"{place}/tasks/{task['id']}/cancel")
        if not any(call.path in paths and call.method in ("POST", "DELETE") for call in told.calls):
            yield f"task {task['id']} is cancelled and nobody asked for that"


def _successes_once(kept: Kept) -> Iterator[str]:
    for task_id, attempts in kept.attempts_of.items():
        wins = [row["attempt"] for row in attempts if row["result"] == _S.SUCCEEDED.value]
        if len(wins) > 1:
            yield f"task {task_id} succeeded in several attempts: {wins}"


def _content_of(row: Row) -> str:
    return content({**row, "outputs": json.loads(row["outputs"])})


def _as_kept(kept: Kept, report: Said) -> str:
    """The report's content with its hidden outputs blank, as the attempt's row shows it."""
    hidden = kept.spec(report.task_id).get("hidden_outputs") if report.task_id in kept.tasks else ()
    said: dict[str, Any] = json.loads(report.content)
    outputs = {name: None if name in (hidden or ()) else value for name, value in said["outputs"].items()}
    return content({**said, "outputs": outputs})


def _order_kept(told: Told, kept: Kept) -> Iterator[str]:
    yield from _leased_in_order(kept)
    first_report: dict[str, int] = {}
    for call in told.calls:
        if call.path.endswith("/report"):
            first_report.setdefault(call.path.split("/")[-2], call.began)
    first_start: dict[str, Start] = {}
    for start in told.starts:
        first_start.setdefault(start.task_id, start)
    for task, required in _edges(kept):
        began, word = first_start.get(task["id"]), first_report.get(required["id"])
        if began is not None and word is not None and began.place < word:
            yield f"task {task['id']} was started before anybody reported {required['id']}, which it requires"


def _leased_in_order(kept: Kept) -> Iterator[str]:
    """By the workflow's own history: every lease comes after the success of all that is required."""
    for task, required in _edges(kept):
        done = [e["seq"] for e in kept.moves[required["id"]] if e["body"]["state"] == _S.SUCCEEDED.value]
        leased = [e["seq"] for e in kept.moves[task["id"]] if e["body"]["state"] == _S.LEASED.value]
        if leased and (not done or done[0] > leased[0]):
            yield f"task {task['id']} was leased before {required['id']}, which it requires, had succeeded"


def _edges(kept: Kept) -> Iterator[tuple[Row, Row]]:
    """Tasks with what they require, but for those that go on though it fails: undos, and what follows a rolling."""
    for edge in kept.requirements:
        task, required = kept.tasks[edge["task_id"]], kept.tasks[edge["requires_id"]]
        if task["undo_of"] is None and not json.loads(required["spec"]).get("batch"):
            yield task, required


def _reports_stay(told: Told, kept: Kept) -> Iterator[str]:
    for report in told.reports():
        if not report.acked or report.task_id not in kept.tasks:
            continue
        row = kept.attempts.get((report.task_id, report.attempt))
        if row is None or (row["claim_id"], row["result"], _content_of(row)) != (
            report.claim_id,
            report.status,
            _as_kept(kept, report),
        ):
            yield f"task {report.task_id}: the report of attempt {report.attempt} was acknowledged and is not kept"


def _inputs_private(told: Told, kept: Kept) -> Iterator[str]:
    """Each task has an input that names it, so that an answer shows whose inputs it holds."""
    for call in told.acknowledged:
        if "/agent/v1" not in call.path or call.answer is None:
            continue
        for task_id in set(CANARY.findall(json.dumps(call.answer))):
            given = call.answer["task"]
            member = str(uuid.uuid5(uuid.UUID(task_id), given["name"].rpartition("/")[2]))  # of a fan-out
            taken_back = kept.tasks.get(given["id"], {}).get("undo_of")
            if (task_id not in (given["id"], taken_back) and member != given["id"]) or not any(
                row["agent_id"] == call.who and row["claim_id"] == given["claim_id"]
                for row in kept.attempts_of.get(given["id"], ())
            ):
                yield f"agent {call.who} was shown the input of task {task_id}, of which it has no lease"


def _all_over(kept: Kept) -> Iterator[str]:
    for task_id, task in kept.tasks.items():
        if _S(task["state"]) not in FINISHED:
            yield f"task {task_id} ({task['name']}) is {task['state']} for ever"
    for workflow_id, workflow in kept.workflows.items():
        state = WorkflowState(workflow["state"])
        if workflow["sealed"] and state not in WORKFLOW_FINISHED:
            yield f"sealed workflow {workflow_id} is {workflow['state']} for ever"
        if state in (WorkflowState.CANCELLING, WorkflowState.UNDOING):
            yield f"workflow {workflow_id} is {workflow['state']} for ever"


def _legal_moves(kept: Kept) -> Iterator[str]:
    for workflow_id, workflow in kept.workflows.items():
        numbers = [event["seq"] for event in kept.events.get(workflow_id, ())]
        if numbers != list(range(1, workflow["event_seq"] + 1)):
            yield f"workflow {workflow_id}: {len(numbers)} events of {workflow['event_seq']}, or gaps among them"
        yield from _workflow_ends_once(workflow_id, kept.events.get(workflow_id, ()))
    for task_id, events in kept.moves.items():
        states = [_S(event["body"]["state"]) for event in events]
        for before, after in itertools.pairwise(states):
            if not _legal(before, after):
                yield f"task {task_id} went from {before.value} to {after.value}"
        if states[-1].value != kept.tasks[task_id]["state"]:
            yield f"task {task_id} is {kept.tasks[task_id]['state']}, its last event says {states[-1].value}"
        if _S(kept.tasks[task_id]["state"]) in HELD and kept.tasks[task_id]["agent_id"] is None:
            yield f"task {task_id} is {kept.tasks[task_id]['state']} by nobody"


def _legal(before: TaskState, after: TaskState) -> bool:
    """Whether the table has the move, at once or through waiting and ready, which one transaction may pass."""
    if after in MOVES[before] or before is after:
        return True
    if after is _S.READY:
        return _S.WAITING in MOVES[before]
    return after is _S.SUCCEEDED and _S.WAITING in MOVES[before] | {before}


def _workflow_ends_once(workflow_id: str, events: Iterable[Row]) -> Iterator[str]:
    ended = None
    for event in events:
        kind, _, state = event["type"].partition("-")
        if kind != "workflow":
            continue
        over = state in {one.value for one in WORKFLOW_FINISHED}
        if over and ended:
            yield f"workflow {workflow_id} came to an end twice: {ended}, then {state}"
        ended = state if over else None
