# SPDX-License-Identifier: Apache-2.0
"""The live configs: for each task name the heat-config config that ran last, kept as companion scripts read them."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

from guest_agent.errors import DamagedRecord
from guest_agent.folder import Folder
from guest_agent.records import read_record, write_record
from guest_agent.task import Task

_FOLDER = "configs"
_ENDING = ("DELETE", "UNDO")

Config = dict[str, Any]


class LiveConfigs:
    """Kept in the state directory. A DELETE or UNDO takes its config out, the next run under the name replaces it."""

    def __init__(self, root: Folder) -> None:
        self._folder = root.child(_FOLDER, create=True)

    def enter(self, task: Task, config: Config) -> list[Config]:
        """Every config that is live while the task runs, its own among them, by name; hidden values are left out."""
        hidden = {item.name for item in task.inputs if item.hidden}
        kept = {
            **config,
            "inputs": [item if item["name"] not in hidden else {**item, "value": ""} for item in config["inputs"]],
        }
        self.drop(task)
        others = self._others()
        if task.action not in _ENDING:
            write_record(self._folder, _key(task), kept)
        return sorted([*others, kept], key=lambda entry: str(entry["name"]))

    def drop(self, task: Task) -> None:
        """The task's name has no config any more; it may never have had one."""
        self._folder.remove(_key(task))

    def wipe(self) -> None:
        """Forget all of them."""
        for name in self._folder.names():
            with contextlib.suppress(OSError):
                self._folder.remove(name)

    def _others(self) -> list[Config]:
        found = []
        for name in self._folder.names():
            try:
                found.append(read_record(self._folder, name))
            except (DamagedRecord, FileNotFoundError):
                with contextlib.suppress(OSError):
                    self._folder.remove(name)
        return found


def _key(task: Task) -> str:
    return hashlib.sha256("\n".join((task.workflow_id, task.server, task.name)).encode()).hexdigest()
