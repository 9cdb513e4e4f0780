# SPDX-License-Identifier: Apache-2.0
"""Hook of group ``ansible``: the config is a playbook, run on this machine itself.

The inventory is ``localhost`` over a local connection unless the option ``inventory`` names another (a relative path is
looked for in /var/lib/heat-config/heat-config-ansible, where heat-config has always looked). Every input is an extra
variable with the type it has, hidden ones too: they go by a file. So is ``heat_outputs_path``: an output is the content
of ``{{ heat_outputs_path }}.<output name>``. Options: ``tags``, ``skip_tags``, ``modulepath``,
``callback_plugins``, ``inventory``. A structured config is a playbook in JSON.

A second run is what Ansible makes of it: modules change only what is not as it should be yet.
"""

from __future__ import annotations

import json
import os
from typing import Any

from guest_agent.errors import HookError
from guest_agent.hooks.ansible_output import find_reason
from guest_agent.hooks.contract import Command, Exit, NewFile, Place, Verdict
from guest_agent.hooks.environment import base_environment, find_program, inputs_file
from guest_agent.hooks.telling import said_reason
from guest_agent.task import Task

PROGRAM = "ansible-playbook"
INVENTORY_DIR = "/var/lib/heat-config/heat-config-ansible"

_PLAYBOOK = "playbook.yaml"
_VARIABLES = "variables.json"
_PLAIN = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_NOCOWS": "1",
}  # the output is read for the reason


class AnsibleHook:
    """Runs ``ansible-playbook``."""

    name = "ansible"

    def prepare(self, task: Task, place: Place) -> Command:
        """The playbook and its extra variables as files."""
        variables = {item.name: "" if item.value is None else item.value for item in task.given}
        variables |= {"heat_config_id": task.attempt.task_id, "heat_outputs_path": place.outputs_path}
        env = {**base_environment(task, place), **_PLAIN}
        if task.options.get("callback_plugins"):
            env["ANSIBLE_CALLBACK_PLUGINS"] = str(task.options["callback_plugins"])
        return Command(
            hook=self.name,
            argv=(
                find_program(PROGRAM, place),
                *_inventory(task.options.get("inventory")),
                *_options(task.options),
                f"--extra-vars=@{place.file(_VARIABLES)}",
                place.file(_PLAYBOOK),
            ),
            env=env,
            files=(
                NewFile(_PLAYBOOK, _playbook(task.config)),
                NewFile(_VARIABLES, json.dumps(variables)),
                inputs_file(task),
            ),
            cwd=place.path,
        )

    def verdict(self, ended: Exit) -> Verdict:
        """Success is exit status 0; the reason of a failure is the task that failed and its message."""
        reason = "" if ended.code == 0 else said_reason(ended.code, find_reason(ended.stdout, ended.stderr))
        return Verdict(ended.code == 0, ended.code, ended.stdout, ended.stderr, ended.outputs, reason)


def _playbook(config: Any) -> str:
    if not config:
        raise HookError("a config of group ansible must be a playbook, this one is empty")
    return config if isinstance(config, str) else json.dumps(config)


def _inventory(wish: Any) -> tuple[str, ...]:
    if not wish:
        return ("--inventory=localhost,", "--connection=local")
    return (f"--inventory={os.path.join(INVENTORY_DIR, str(wish))}",)


def _options(options: dict[str, Any]) -> list[str]:
    """Each in one argument with its name, so that no value is taken for an option."""
    names = {"tags": "--tags", "skip_tags": "--skip-tags", "modulepath": "--module-path"}
    return [f"{flag}={_listed(options[name])}" for name, flag in names.items() if options.get(name)]


def _listed(value: Any) -> str:
    return ",".join(str(part) for part in value) if isinstance(value, list) else str(value)
