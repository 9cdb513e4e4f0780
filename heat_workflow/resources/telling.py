# SPDX-License-Identifier: Apache-2.0
"""Telling: what stack events say of tasks beside their end: attempts that failed, and what a success has left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from heat_workflow import errors
from heat_workflow.resources import slots
from heat_workflow.shapes import Task

RETRY_DELAY_MOST = 3600.0  # seconds: where the tasks API stops doubling the delay between attempts
BETWEEN = frozenset({"waiting", "ready"})

Attempts = Sequence[Mapping[str, Any]]


def attempts_over(task: Task) -> int:
    """How many attempts of the task have another after them, or wait for it."""
    return task["attempt"] if task["state"] in BETWEEN else max(task["attempt"] - 1, 0)


def failed_attempts(task: Task, attempts: Attempts, told: int) -> list[str]:
    """What is to be said of each attempt after number ``told`` that failed and was followed by another."""
    return [
        f"task {task['name']}: attempt {one['attempt']} of {task['max_attempts']} {_why(one)}, "
        f"next try in {_delay(task, one['attempt']):g} s"
        for one in attempts
        if told < one["attempt"] <= attempts_over(task) and one["result"] in slots.FAILED
    ]


def _why(attempt: Mapping[str, Any]) -> str:
    """As of a task: an attempt has the same fields."""
    return slots.why(cast(Task, {**attempt, "state": attempt["result"], "status_reason": attempt["reason"]}))


def _delay(task: Task, attempt: int) -> float:
    return float(min((task.get("retry_delay") or 0) * 2 ** (attempt - 1), RETRY_DELAY_MOST))


def news_of_attempts(tasks: Iterable[Task], told: dict[str, int], attempts: Callable[[Task], Attempts]) -> list[str]:
    """What is to be said of attempts that failed since ``told``, which is brought up to date: attempts by task id.

    ``attempts`` asks the tasks API; it is asked for as many tasks as an event has room for.
    """
    over = {task["id"]: (task, attempts_over(task)) for task in tasks if task.get("max_attempts", 1) > 1}
    fresh = [(task, count) for task, count in over.values() if count > told.get(task["id"], 0)][: slots.REASONS_SHOWN]
    said = [text for task, _ in fresh for text in failed_attempts(task, attempts(task), told.get(task["id"], 0))]
    told.update({task["id"]: count for task, count in fresh})
    return said


def notes(tasks: Iterable[Task]) -> list[str]:
    """What tasks that succeeded have to say all the same: of an output too large to be kept, of nothing to run."""
    done = (task for task in tasks if task["state"] == "succeeded" and task["status_reason"])
    return [f"task {task['name']} succeeded; {errors.printable(task['status_reason'])}" for task in done]


def undo_failure(undo: Task) -> str | None:
    """What is to be said of an undo that has ended, None if it has taken its task back."""
    if undo["state"] in ("succeeded", *slots.UNFINISHED):
        return None
    place = f" on server {undo['server']}" if undo.get("server") else ""
    return f"{undo['name']}{place} {slots.why(undo)}"
