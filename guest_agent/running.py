# SPDX-License-Identifier: Apache-2.0
"""A running hook as the agent sees it: its end can be waited for, its cancel told, its log read."""

from __future__ import annotations

import json
import logging
import os
import select

from guest_agent.folder import Folder
from guest_agent.live_log import LogReader
from guest_agent.order import CANCEL_FILE, CONTROL_PIPE
from guest_agent.task import Attempt

LOG = logging.getLogger(__name__)


class Running:
    """A hook under its shim, started by this agent or by the one before it."""

    def __init__(self, attempt: Attempt, folder: Folder, alive: int) -> None:
        self.attempt = attempt
        self._folder = folder
        self._alive = alive

    def wait(self) -> None:
        """Block until the shim is gone; the report is in the spool then, unless the shim was killed."""
        poller = select.poll()
        poller.register(self._alive, select.POLLIN)
        poller.poll()

    def cancel(self, why: str, grace: float, status: str = "cancelled") -> None:
        """Tell the shim to stop the hook and all it started, and to report ``status``.

        Safe from any thread; may be repeated, the first one counts.
        """
        wish = json.dumps({"why": why, "grace": grace, "status": status}).encode()
        try:
            if not self._folder.has(CANCEL_FILE):
                self._folder.replace(CANCEL_FILE, wish, durable=False)
        except OSError as error:
            LOG.warning("%s: the cancel cannot be written down, it is only told: %s", self.attempt, error.strerror)
        try:
            bell = os.open(
                CONTROL_PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder.fd
            )
        except OSError:
            return
        try:
            os.write(bell, wish + b"\n")
        except BlockingIOError:
            pass
        finally:
            os.close(bell)

    def log_reader(self) -> LogReader:
        """What the hook writes, as it writes it."""
        return LogReader(self._folder)

    def close(self) -> None:
        """Let go of the descriptors; the hook goes on."""
        os.close(self._alive)
        self._folder.close()
