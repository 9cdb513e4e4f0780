# SPDX-License-Identifier: Apache-2.0
"""Values: what attributes show of a task, and what they do not: hidden outputs, and what is not known yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from heat.common import exception

from heat_workflow.resources import schema
from heat_workflow.shapes import Task

Reveal = Callable[[Task], Task]


def value_of(task: Task | None, key: str, declared: bool, reveal: Reveal | None) -> Any:
    """What an attribute shows of the task: a declared output, or what is known of the run.

    Hidden outputs are masked in lists. ``reveal`` asks for the task with them; without it they are refused.
    """
    if task is None:
        return None
    hidden = set(task.get("hidden_outputs") or ())
    if declared and key in hidden and reveal is None:
        raise exception.Error(
            f"output {key} of task {task['name']} is hidden; set expose_hidden to let get_attr read it"
        )
    wanted = declared or key == schema.OUTPUTS
    if wanted and reveal is not None and hidden & {key, *(task.get("outputs") or {})}:
        task, hidden = reveal(task), set()
    outputs: Mapping[str, Any] = task.get("outputs") or {}
    if declared:
        return outputs.get(key)
    if key == schema.OUTPUTS:
        return {name: output for name, output in outputs.items() if name not in hidden}
    return task["id"] if key == schema.TASK_ID else cast("Mapping[str, Any]", task).get(key)
