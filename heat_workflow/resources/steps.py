# SPDX-License-Identifier: Apache-2.0
"""Steps: what a handler of a task resource decides, and what it hands to its check_."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from heat_workflow.resources.runs import Run, Runs
from heat_workflow.shapes import TaskBody


@dataclasses.dataclass(frozen=True)
class Work:
    """What one action has to do: the task to add, where, and a digest that is equal for equal work.

    ``workflow_id`` is the one of the resource's earlier runs, if there are any.
    """

    workflow_id: str
    body: TaskBody
    digest: str
    awaited: bool = True


@dataclasses.dataclass
class Undo:
    """A task that is to be taken back if it succeeded; ``undo_id`` is the task that does so, once the API has it."""

    workflow_id: str
    task_id: str
    undo_id: str | None = None


@dataclasses.dataclass
class Waiting:
    """The run that a check_ waits for, and what is to be sent before it can."""

    runs: Runs
    run: Run | None = None
    body: TaskBody | None = None  # still to be added; None once the API has it
    after: str | None = None  # a task that has to end first
    awaited: bool = True
    news: bool = True  # whether the run's end is one: it had not ended when the action began
    undos: list[Undo] = dataclasses.field(default_factory=list)  # what is taken back first, one after another


@dataclasses.dataclass
class Pending:
    """What a handler hands to its check_. While the API is out of reach nothing is decided, and check_ tries again."""

    decide: Callable[[], Waiting | None] | None
    waiting: Waiting | None = None
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)  # by task id, how many were told of
    began: float = dataclasses.field(default_factory=time.monotonic)
    told: bool = False  # whether a stack event has said what the wait is for
