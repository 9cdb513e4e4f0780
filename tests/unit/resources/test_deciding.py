# SPDX-License-Identifier: Apache-2.0
"""What an update of many tasks decides, case by case, without a cloud."""

from __future__ import annotations

import uuid
from collections.abc import Set
from typing import Any

from heat_workflow.resources.deciding import Aim, Decision, Left, Standing, decide
from heat_workflow.resources.slots import History, Slot
from heat_workflow.shapes import Task, TaskBody

RUNS = [str(uuid.uuid4()) for _ in range(4)]
A, B, C = Slot("a"), Slot("b"), Slot("web", "c/1")


def task(
    slot: Slot, run: int, state: str = "succeeded", digest: str = "1", action: str = "CREATE", **more: Any
) -> Task:
    name = f"{slot.task}/{slot.member}" if slot.member else slot.task
    fanout = slot.task if slot.member else None
    made: dict[str, Any] = {"id": slot.task_id(RUNS[run]), "name": name, "fanout": fanout, "state": state}
    return {**made, "action": action, "attempt": 1, "server": "s", "heat": {"digest": digest}, **more}  # type: ignore[typeddict-item]


def decided(
    wanted: dict[Slot, str],
    *tasks: Task,
    rolling: bool = False,
    begun: Set[Slot] = frozenset(),
    before: dict[Slot, Standing] | None = None,
    actions: str = "CREATE UPDATE",
    **fields: Any,
) -> Decision:
    """What is decided where every slot is wanted on server s, with a body of that digest for each of the actions."""

    def body(action: str, digest: str) -> TaskBody:
        return {"action": action, "server": "s", "heat": {"digest": digest}}

    creating, updating = (
        {slot: body(action, digest) for slot, digest in wanted.items() if action in actions}
        for action in ("CREATE", "UPDATE")
    )
    replacing = fields.pop("replacing", lambda *_: False)
    touched = fields.pop("touched", lambda stale, gone: stale)
    aim = Aim(dict.fromkeys(wanted, "s"), creating, updating, replacing, touched)
    return decide(aim, before or {}, History.of(tasks, RUNS), begun, rolling)


def chosen(decision: Decision) -> dict[Slot, str]:
    return {slot: body["action"] for slot, body in decision.chosen.items()}


def test_what_never_ran_is_created_and_what_is_in_effect_is_left_alone() -> None:
    assert chosen(decided({A: "1", B: "1"}, task(A, 0))) == {B: "CREATE"}


def test_what_changed_is_updated_once_it_was_created() -> None:
    assert chosen(decided({A: "2"}, task(A, 0))) == {A: "UPDATE"}
    assert chosen(decided({A: "2"}, task(A, 0, "failed"))) == {A: "CREATE"}
    failed_update = task(A, 1, "failed", "2", "UPDATE")
    assert chosen(decided({A: "3"}, task(A, 0), failed_update)) == {A: "UPDATE"}


def test_what_failed_runs_again_and_what_runs_is_adopted() -> None:
    for state in ("failed", "timed_out", "cancelled", "skipped", "undone"):
        assert A in chosen(decided({A: "1"}, task(A, 0, state)))
    for state in ("waiting", "ready", "leased", "stalled", "succeeded"):
        assert chosen(decided({A: "1"}, task(A, 0, state))) == {}


def test_a_suspend_in_between_changes_nothing() -> None:
    assert chosen(decided({A: "1"}, task(A, 0), task(A, 1, action="SUSPEND"))) == {}


def test_another_server_is_created_anew_and_left_behind_on_the_old() -> None:
    old = task(C, 0, server="other")
    decision = decided({C: "1"}, old)
    assert (chosen(decision), decision.leaving) == ({C: "CREATE"}, {C: Left("other", old)})


def test_what_is_gone_leaves_if_anything_was_deployed() -> None:
    kept, gone, failed = task(A, 0), task(B, 0), task(C, 0, "failed")
    decision = decided({A: "1"}, kept, gone, failed)
    left = {B: Left("s", gone), C: Left("s", failed)}
    assert (decision.gone, decision.leaving, chosen(decision)) == ({B, C}, left, {})
    assert [one.in_effect for one in left.values()] == [gone, None], "what failed has nothing to undo"


def test_a_rollback_takes_back_only_what_succeeded_since() -> None:
    old, new, failed = task(A, 0), task(A, 1, digest="2", action="UPDATE"), task(B, 1, "failed", "2", "UPDATE")
    decision = decided({A: "1", B: "1"}, old, new, task(B, 0), failed, rolling=True)
    assert (decision.turning, chosen(decision)) == ((new,), {A: "UPDATE", B: "UPDATE"})
    assert decided({A: "1", B: "1"}, old, new, task(B, 0), failed).turning == ()


def test_what_depends_on_a_change_runs_too() -> None:
    decision = decided({A: "2", B: "1"}, task(A, 0), task(B, 0), touched=lambda stale, gone: stale | {B})
    assert chosen(decision) == {A: "UPDATE", B: "UPDATE"}


def test_what_this_action_has_begun_is_not_begun_again() -> None:
    assert chosen(decided({A: "1"}, task(A, 0, "failed"), begun={A})) == {}


def test_tasks_of_others_detached_ones_and_undos_are_no_part_of_it() -> None:
    foreign = {**task(A, 0), "id": str(uuid.uuid4())}
    undo = {**task(A, 0), "id": str(uuid.uuid4()), "name": "undo of a"}
    listed: Any = [foreign, undo, task(A, 1, detached=True), task(B, 2), task(C, 3)]
    assert History.of(listed, RUNS).tasks.keys() == {B, C}


def test_only_what_nobody_needs_is_superseded() -> None:
    first, second, third = task(A, 0), task(A, 1, "failed", "2", "UPDATE"), task(A, 2, "succeeded", "3", "UPDATE")
    assert list(History.of([first, second], RUNS).superseded()) == [], "the first is in effect"
    assert list(History.of([first, second, third], RUNS).superseded()) == [first, second]
