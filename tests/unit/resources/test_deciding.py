# SPDX-License-Identifier: Apache-2.0
"""What an update of many tasks decides, case by case, without a cloud."""

from __future__ import annotations

import uuid
from collections.abc import Set
from typing import Any

import pytest

from heat_workflow.resources.deciding import Aim, Decision, Left, Standing, decide, next_action
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


# What comes next on a server, against what a stock SoftwareDeployment of one server does: it has no memory but Heat's.
NEVER, SUCCEEDED, FAILED = (), (("CREATE", "succeeded"),), (("CREATE", "failed"),)
NEXT = [
    # tasks of before, the creation had nothing to run, what comes next
    (NEVER, False, "CREATE"),
    (NEVER, True, "UPDATE"),
    (SUCCEEDED, False, "UPDATE"),
    (FAILED, False, "CREATE"),
    (FAILED, True, "UPDATE"),  # the author has taken CREATE out of the actions, and Heat called that complete
    ((("UPDATE", "failed"),), False, "UPDATE"),
    ((("UPDATE", "failed"),), True, "UPDATE"),
    ((*SUCCEEDED, ("UPDATE", "failed")), False, "UPDATE"),
    ((("SUSPEND", "succeeded"), ("RESUME", "succeeded")), False, "CREATE"),
    ((("SUSPEND", "succeeded"), ("RESUME", "succeeded")), True, "UPDATE"),
    ((*FAILED, ("CREATE", "timed_out")), False, "CREATE"),
]


@pytest.mark.parametrize(("tasks", "idle", "action"), NEXT)
def test_which_action_comes_next(tasks: tuple[tuple[str, str], ...], idle: bool, action: str) -> None:
    assert next_action(tasks, idle) == action


IDLE = {A: Standing("s", creates=False, digest="1")}
THERE = {A: Standing("s", creates=True, digest="1")}

# A slot of a group or a workflow at an update, by the actions that have something to run there: a stock group makes
# a nested deployment where a server joins, which is a CREATE, and updates it from then on.
WITHOUT_CREATE = [
    # actions now, how it stood before, tasks of before, digest now, what runs
    ("UPDATE", {}, [], "1", {}),  # joins
    ("UPDATE", IDLE, [], "1", {}),  # nothing changed
    ("UPDATE", IDLE, [], "2", {A: "UPDATE"}),
    ("CREATE UPDATE", IDLE, [], "2", {A: "UPDATE"}),  # it is there already
    ("CREATE UPDATE", {}, [], "1", {A: "CREATE"}),
    ("CREATE", IDLE, [], "2", {}),
    ("UPDATE", {A: Standing("s", False, None)}, [], "1", {A: "UPDATE"}),  # so far DELETE alone had something
    ("UPDATE", {A: Standing("t", False, "1")}, [], "2", {}),  # another server under the same name joins
    ("UPDATE", IDLE, [("UPDATE", "succeeded", "1")], "1", {}),
    ("UPDATE", IDLE, [("UPDATE", "failed", "1")], "1", {A: "UPDATE"}),
    ("UPDATE", THERE, [("CREATE", "succeeded", "1")], "2", {A: "UPDATE"}),
    ("UPDATE", THERE, [("CREATE", "failed", "1")], "2", {}),  # it was never created, and is not to be
    ("UPDATE", IDLE, [("CREATE", "failed", "1")], "2", {A: "UPDATE"}),
    ("CREATE", THERE, [("CREATE", "succeeded", "1"), ("UPDATE", "failed", "2")], "2", {}),
    ("", IDLE, [], "2", {}),
]


@pytest.mark.parametrize(("actions", "before", "ran", "digest", "runs"), WITHOUT_CREATE)
def test_an_update_where_an_action_has_nothing_to_run(
    actions: str, before: dict[Slot, Standing], ran: list[tuple[str, str, str]], digest: str, runs: dict[Slot, str]
) -> None:
    tasks = [task(A, number, state, was, action) for number, (action, state, was) in enumerate(ran)]
    decision = decided({A: digest}, *tasks, before=before, actions=actions)
    assert chosen(decision) == runs
    judged = {task["state"] for task in tasks[-1:] if A in decision.judged and not runs}
    assert judged <= {"succeeded"}, "nothing to run is no failure"


def test_who_never_ran_anything_leaves_where_a_creation_had_nothing_to_run() -> None:
    """DELETE may have something there: stock Heat runs it, too."""
    decision = decided({}, before={**IDLE, B: Standing("s", True, "1")})
    assert decision.leaving == {A: Left("s")}, "B was never created"
    decision = decided({A: "1"}, before={A: Standing("t", False, "1")})
    assert decision.leaving == {A: Left("t")}, "another server under the same name"


def test_a_delete_that_an_engine_did_not_see_the_end_of_is_taken_over() -> None:
    created, parting = task(A, 0), task(A, 1, "leased", action="DELETE")
    decision = decided({}, created, parting)
    assert decision.leaving == {A: Left("s", created, parting)}
    assert parting not in decision.ending
    failed = task(A, 1, "failed", action="DELETE")
    assert decided({}, created, failed).leaving == {A: Left("s", created)}
    alone = task(A, 1, "succeeded", action="DELETE")
    assert decided({}, alone, before=IDLE).leaving == {A: Left("s", None, alone)}


def test_a_change_that_asks_for_a_new_creation_leaves_what_was_there() -> None:
    old = task(A, 0)
    decision = decided({A: "2"}, old, replacing=lambda *_: True)
    assert (chosen(decision), decision.leaving) == ({A: "CREATE"}, {A: Left("s", old)})
    assert decided({A: "2"}, old, replacing=lambda *_: True, actions="UPDATE").chosen == {}
    failed = task(A, 0, "failed")
    assert decided({A: "2"}, failed, replacing=lambda *_: True).leaving == {}, "there is nothing to replace"


def test_what_runs_on_a_server_that_is_left_is_ended_first() -> None:
    running = task(A, 0, "leased", server="t")
    decision = decided({A: "1"}, running)
    assert (decision.ending, decision.leaving, chosen(decision)) == ((running,), {}, {A: "CREATE"})
    ended = task(A, 0, "cancelled", server="t")
    assert decided({A: "1"}, ended).leaving == {A: Left("t", ended)}, "it may have left something behind"
    nobody = task(A, 0, "cancelled", server="t", attempt=0)
    assert decided({A: "1"}, nobody).leaving == {}
