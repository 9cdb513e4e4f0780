# SPDX-License-Identifier: Apache-2.0
"""Past reports: those the API has taken, kept for a day in case its store goes back to a time before (G15)."""

from __future__ import annotations

import logging
import os
import time

from guest_agent.errors import DamagedRecord
from guest_agent.folder import Folder
from guest_agent.records import Record, read_record
from guest_agent.task import Attempt

LOG = logging.getLogger(__name__)

PAST = "past"
KEPT_MOST = 64
KEPT_SECONDS = 86400.0


class PastReports:
    """By task and number of the attempt: after a restore the API knows nothing of the claim it was made under."""

    def __init__(self, spool: Folder) -> None:
        self._spool = spool
        self._folder = spool.child(PAST, create=True)

    def keep(self, attempt: Attempt, name: str) -> None:
        """Keep the finished record ``name`` of the spool; the oldest go. A failure is only told."""
        try:
            self._keep(attempt, name)
        except OSError as error:
            LOG.warning("%s: its report is not kept: %s", attempt, error.strerror)

    def _keep(self, attempt: Attempt, name: str) -> None:
        if not self._spool.has(name):
            return
        self._folder.remove(_key(attempt))
        os.link(name, _key(attempt), src_dir_fd=self._spool.fd, dst_dir_fd=self._folder.fd, follow_symlinks=False)
        ages = sorted((-os.stat(kept, dir_fd=self._folder.fd).st_mtime, kept) for kept in self._folder.names())
        for number, (age, kept) in enumerate(ages):
            if number >= KEPT_MOST or time.time() + age > KEPT_SECONDS:
                self._folder.remove(kept)

    def find_report(self, attempt: Attempt) -> Record | None:
        """The report on this attempt at the task, or None."""
        try:
            return dict(read_record(self._folder, _key(attempt))["report"])
        except (FileNotFoundError, DamagedRecord, KeyError, TypeError, ValueError):
            return None

    def close(self) -> None:
        """Let go of the folder."""
        self._folder.close()


def _key(attempt: Attempt) -> str:
    return f"{attempt.task_id.replace('-', '')}.{attempt.attempt}"
