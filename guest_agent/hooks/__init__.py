# SPDX-License-Identifier: Apache-2.0
"""The hooks there are, by the exact name of their group."""

from __future__ import annotations

from guest_agent.errors import HookError
from guest_agent.hooks.contract import Hook
from guest_agent.hooks.script import ScriptHook

UNGROUPED = "Heat::Ungrouped"

HOOKS: dict[str, Hook] = {hook.group: hook for hook in (ScriptHook(),)}


def get_hook(group: str) -> Hook:
    """The hook of that group; HookError names those there are. The name is compared, never made a path."""
    hook = HOOKS.get(group)
    if hook is None:
        raise HookError(f"unknown hook {group!r}: this agent has {', '.join(sorted(HOOKS))}")
    return hook
