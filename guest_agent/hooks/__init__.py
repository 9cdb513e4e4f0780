# SPDX-License-Identifier: Apache-2.0
"""The hooks there are: those built in by the exact name of their group, then the executables of heat-config."""

from __future__ import annotations

from collections.abc import Callable

from guest_agent.errors import HookError
from guest_agent.hooks.ansible import AnsibleHook
from guest_agent.hooks.contract import Command, Exit, Hook, Place, Verdict
from guest_agent.hooks.heat_config import HeatConfigHook
from guest_agent.hooks.puppet import PuppetHook
from guest_agent.hooks.script import ScriptHook
from guest_agent.hooks.upgrade import UpgradeHook
from guest_agent.task import Task

UNGROUPED = "Heat::Ungrouped"
METADATA_GROUPS = ("os-apply-config", "apply-config")  # what os-collect-config and os-apply-config made of them is gone

BUILT_IN: dict[str, Hook] = {hook.name: hook for hook in (ScriptHook(), AnsibleHook(), PuppetHook(), UpgradeHook())}


class Hooks:
    """The hooks of this machine. A group that is built in is never looked for in a directory.

    Images made for heat-config bring their own ``script``, ``ansible`` and ``puppet``, with all they lose; ours take
    the same configs and options. An executable that shall be used in place of one of ours needs a group of its own.
    """

    def __init__(self, heat_config: HeatConfigHook) -> None:
        self._heat_config = heat_config

    def prepare(self, task: Task, place: Place) -> Command:
        """The command for the task; HookError names the hooks there are when none is for its group."""
        hook = BUILT_IN.get(task.group)
        if hook is None and self._heat_config.has(task.group):
            hook = self._heat_config
        if hook is None:
            known = ", ".join(sorted({*BUILT_IN, *self._heat_config.names()}))
            raise HookError(f"unknown hook {task.group!r}: this agent has {known}{_hint(task.group)}")
        if hook is not self._heat_config:
            self._heat_config.live.drop(task)
        return hook.prepare(task, place)

    def forget(self) -> None:
        """Wipe what is kept of tasks."""
        self._heat_config.live.wipe()


def _hint(group: str) -> str:
    if group not in METADATA_GROUPS:
        return ""
    return (
        "; a config of this group is metadata for os-collect-config, os-apply-config and os-refresh-config, and "
        "cannot run without them: write it as a config of group script, ansible or puppet, or put an executable of "
        "this name into hooks_dirs"
    )


def get_verdict(hook: str) -> Callable[[Exit], Verdict]:
    """How the exit of a command of that hook is judged."""
    return HeatConfigHook.verdict if hook == HeatConfigHook.name else BUILT_IN[hook].verdict
