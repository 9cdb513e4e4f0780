# SPDX-License-Identifier: Apache-2.0
"""Hook of group ``heat-workflow-agent``: the task is to exchange the agent itself for another release.

Its inputs are the order: ``sha256`` (of a release the API serves), ``version`` (must be that of the release),
``trial_seconds`` (60), ``allow_older`` (false). It has no config.
"""

from __future__ import annotations

import os
import sys

from guest_agent.errors import HookError, UpgradeError
from guest_agent.home import find_own_file
from guest_agent.hooks.contract import Command, Exit, Place, Verdict
from guest_agent.hooks.environment import base_environment, inputs_file
from guest_agent.slots import CURRENT
from guest_agent.task import Task


class UpgradeHook:
    """Runs ``upgrade`` of the very file this agent was started from."""

    name = "heat-workflow-agent"

    def prepare(self, task: Task, place: Place) -> Command:
        """The command. HookError for an order that makes no sense, or an agent that was installed in another way."""
        from guest_agent.upgrade import read_wish  # it brings requests, which the zygote and its shims do without

        order = inputs_file(task)
        try:
            read_wish(order.text)
        except UpgradeError as error:
            raise HookError(str(error)) from error
        if task.run_as:
            raise HookError("the agent is exchanged by its own user: this task takes no run_as")
        own = find_own_file()
        if own is None or not os.path.islink(os.path.join(os.path.dirname(own), CURRENT)):
            raise HookError("this agent was not installed by user_data: exchange it in the way it was installed")
        return Command(
            hook=self.name,
            argv=(sys.executable, "-I", own, "upgrade"),
            env=base_environment(task, place),
            files=(order,),
        )

    def verdict(self, ended: Exit) -> Verdict:
        """Success is exit status 0; the reason of a failure is what was said last on standard error."""
        reason = "" if ended.code == 0 else (ended.stderr.strip().splitlines() or [f"exit status {ended.code}"])[-1]
        return Verdict(ended.code == 0, ended.code, ended.stdout, ended.stderr, ended.outputs, reason[:1000])
