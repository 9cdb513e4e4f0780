# SPDX-License-Identifier: Apache-2.0
"""Group ``component``: one config for each action; the one for the task's action is what the task does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from guest_agent.errors import HookError
from guest_agent.task import Task

GROUP = "component"


def for_action(task: Task) -> Task | None:
    """The task as its action has it; None when the component has nothing for it. Other groups' tasks stay."""
    if task.group != GROUP:
        return task
    for entry in _entries(task.config):
        if task.action in entry["actions"]:
            return replace(task, group=str(entry["tool"]), config=entry.get("config"))
    return None


def _entries(config: Any) -> list[dict[str, Any]]:
    """``{"configs": [{"actions", "tool", "config"}]}``, or that list by itself."""
    found = config.get("configs") if isinstance(config, dict) else config
    if not isinstance(found, list) or not all(isinstance(entry, dict) and entry.get("tool") for entry in found):
        raise HookError("a config of group component must hold a list 'configs' of entries with 'actions' and 'tool'")
    return [{"actions": ("CREATE", "UPDATE"), **entry} for entry in found]
