# SPDX-License-Identifier: Apache-2.0
"""What stack events say of tasks that wait: each reason once, and events some time apart."""

from __future__ import annotations

from typing import cast

from heat_workflow.resources.slots import Told
from heat_workflow.shapes import Task

APART = 10.0


def waiting(task_id: str, what: str) -> Task:
    return cast(Task, {"id": task_id, "name": task_id, "state": "ready", "waiting_for": what})


def test_g30_a_reason_is_told_once_after_a_while_and_again_when_it_changes() -> None:
    busy = "agent web 1 (capability server=s), busy with task backup (7) since T"
    looks: list[tuple[float, str, bool]] = [
        (105, f"{busy}; last seen T, 1 s ago", False),  # too early
        (111, f"{busy}; last seen T, 2 s ago", True),
        (112, f"{busy}; last seen T2, 3 s ago", False),  # only when it was seen has changed
        (140, f"{busy}; last seen T2, 4 s ago", False),
        (141, "workflow w to be resumed: it is paused", True),
        (142, "the lock db: task 9 is running", False),  # changed, but too soon after the event before
        (151, "the lock db: task 9 is running", True),
        (170, f"{busy}; last seen T3, 4 s ago", False),  # was told
    ]
    told = Told()
    assert [bool(told.news([waiting("a", what)], now, 100, APART)) for now, what, _ in looks] == [
        tells for _, _, tells in looks
    ]


def test_g30_of_many_tasks_those_are_told_of_whose_reason_is_new() -> None:
    told = Told()
    first = [waiting("a", "task x (leased)"), waiting("b", "task x (leased)")]
    assert told.news(first, 20, 0, APART) == first
    later = [waiting("a", "task x (leased)"), waiting("b", "capability y: no agent of this project has it")]
    assert told.news(later, 40, 0, APART) == later[1:]
    assert told.news([], 60, 0, APART) == []
