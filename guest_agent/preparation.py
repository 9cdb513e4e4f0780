# SPDX-License-Identifier: Apache-2.0
"""What becomes of a claimed task before anything is executed: a command to run, or an outcome at once."""

from __future__ import annotations

import logging
from typing import Any, Union

from guest_agent import report as reports
from guest_agent.errors import AgentError, HookError
from guest_agent.hooks import UNGROUPED, Hooks
from guest_agent.hooks.component import for_action
from guest_agent.hooks.contract import Command, Place
from guest_agent.task import Attempt, Task, read_task

LOG = logging.getLogger(__name__)

Prepared = Union[tuple[Task, Command], reports.Report]


def prepare(attempt: Attempt, wire: dict[str, Any], hooks: Hooks, place: Place) -> Prepared:
    """The task with its command, or the report of one that runs nothing. Nothing is raised for a task that is wrong."""
    try:
        task = read_task(wire)
        if task.group == UNGROUPED:
            return _nothing(f"{UNGROUPED} names no hook: nothing was executed")
        part = for_action(task)
        if part is None:
            return _nothing(f"the component has nothing for action {task.action}: nothing was executed")
        return part, hooks.prepare(part, place)
    except HookError as error:
        LOG.warning("%s: %s", attempt, error)
        return reports.failed(str(error), error.code)
    except (AgentError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        LOG.error("%s: unreadable: %s", attempt, type(error).__name__)
        return reports.failed(f"the agent cannot read the task: {type(error).__name__}")


def _nothing(reason: str) -> reports.Report:
    return reports.compose("succeeded", None, reason=reason)
