# SPDX-License-Identifier: Apache-2.0
"""The slots: the agent's file that is started, and beside it the one before, which comes back if the new one is bad.

Each file is called after the sha256 of its bytes. ``current.pyz`` names the one to start, ``previous.pyz`` the one
before it. While ``trial`` is there the current one has not proved itself. Whoever starts the agent after the time in
it, or after a reboot, puts the previous one back: the agent may be too broken to do so, its starter is not it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time

from guest_agent.errors import UpgradeError
from guest_agent.folder import Folder
from guest_agent.state_dir import boot_id

CURRENT, PREVIOUS, TRIAL, PLAN = "current.pyz", "previous.pyz", "trial", "plan.json"
_FILE = re.compile(r"[0-9a-f]{64}\.pyz")
_PLAN_MOST = 65536


class Slots:
    """The directory ``home`` that the agent is installed in, of one whose first boot made it."""

    def __init__(self, home: str) -> None:
        """OSError when there is no such directory."""
        self._home = Folder(home)

    @property
    def current(self) -> str:
        """The name of the file that is started."""
        return os.readlink(CURRENT, dir_fd=self._home.fd)

    @property
    def on_trial(self) -> bool:
        """Whether the current one has yet to prove itself."""
        return self._home.has(TRIAL)

    def path(self, name: str) -> str:
        """Where that file is."""
        return os.path.join(self._home.path, name)

    def find_settings(self) -> str:
        """Where the first boot put the agent's settings. UpgradeError when it left no word of that."""
        try:
            return str(json.loads(self._home.read(PLAN, _PLAN_MOST))["conf"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UpgradeError(f"{self.path(PLAN)} does not say where the settings are: {error}") from None

    def add(self, name: str, content: bytes) -> None:
        """Put a file beside the others, durably. Nothing starts it yet."""
        self._home.replace(name, content, durable=True, mode=0o644)

    def begin_trial(self, name: str, seconds: float) -> None:
        """Have that file started from now on, and the one before it again unless ``confirm`` comes within the time."""
        self._link(PREVIOUS, self.current)
        trial = {"boot_id": boot_id(), "until": time.monotonic() + seconds}
        self._home.replace(TRIAL, json.dumps(trial).encode(), durable=True, mode=0o644)
        self._link(CURRENT, name)

    def confirm(self) -> None:
        """The current one is good. It and the one before it stay, all others go."""
        self._home.remove(TRIAL)
        os.fsync(self._home.fd)
        self.tidy()

    def roll_back(self) -> None:
        """Have the previous one started again; may be repeated."""
        self._link(CURRENT, os.readlink(PREVIOUS, dir_fd=self._home.fd))
        self.confirm()  # the one that is current again needs no trial

    def tidy(self) -> None:
        """Remove the files that neither slot names."""
        named = {self.current}
        with contextlib.suppress(FileNotFoundError):
            named.add(os.readlink(PREVIOUS, dir_fd=self._home.fd))
        for name in self._home.names():
            if _FILE.fullmatch(name) and name not in named:
                with contextlib.suppress(OSError):  # what cannot be removed costs space alone
                    self._home.remove(name)

    def _link(self, name: str, target: str) -> None:
        fresh = f".{name}"
        self._home.remove(fresh)
        os.symlink(target, fresh, dir_fd=self._home.fd)
        self._home.rename(fresh, name)
        os.fsync(self._home.fd)
