# SPDX-License-Identifier: Apache-2.0
"""The status file: what the running agent tells the operator who asks ``heat-workflow-agent status``."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import dataclass, fields, replace
from typing import Any

from guest_agent.folder import Folder
from guest_agent.home import find_own_file

LOG = logging.getLogger(__name__)

NAME = "status.json"
SILENCE_LIMIT = 180.0
_LEAST_INTERVAL = 1.0


@dataclass(frozen=True)
class Status:
    """Last contact and last error (Unix times, 0 for never), what the agent will do next.

    ``process`` is the pid of who says so, ``program`` the name of the one file it runs from, empty if it is not one.
    """

    agent_id: str = ""
    last_contact: float = 0.0
    last_error: str = ""
    last_error_at: float = 0.0
    next_step: str = ""
    ended: bool = False
    program: str = ""
    process: int = 0


_FIELDS = {field.name for field in fields(Status)}  # another release may know more


class StatusFile:
    """Keeps the file up to date, from any thread; contacts alone are written once a second at most.

    That it cannot be written stops nothing: on a full disk leases are extended and hooks are cancelled all the same.
    """

    def __init__(self, folder: Folder, agent_id: str) -> None:
        self._folder = folder
        program = os.path.basename(find_own_file() or "")
        before = find_status(folder.path) or Status()
        self._status = replace(before, agent_id=agent_id, program=program, process=os.getpid())
        self._written = 0.0
        self._lock = threading.Lock()

    def contact(self, next_step: str = "") -> None:
        """The API answered; the error before it is over. Without ``next_step`` that stays as it was."""
        with self._lock:
            step = next_step or self._status.next_step
            now = time.time()
            self._change(
                replace(self._status, last_contact=now, last_error="", last_error_at=0.0, next_step=step, ended=False)
            )

    def trouble(self, error: str, next_step: str) -> None:
        """Something failed that a person may want to know."""
        with self._lock:
            self._change(replace(self._status, last_error=error, last_error_at=time.time(), next_step=next_step))

    def end(self, error: str, next_step: str) -> None:
        """The agent stops for good."""
        with self._lock:
            self._change(
                replace(self._status, last_error=error, last_error_at=time.time(), next_step=next_step, ended=True)
            )

    def _change(self, status: Status) -> None:
        told_before = (self._status.next_step, self._status.last_error)
        self._status = status
        now = time.monotonic()
        if (status.next_step, status.last_error) == told_before and now - self._written < _LEAST_INTERVAL:
            return
        self._written = now
        try:
            self._folder.replace(NAME, json.dumps(status.__dict__).encode(), durable=False)
        except OSError as error:
            LOG.warning("status file: %s", error.strerror)


def find_status(state_dir: str) -> Status | None:
    """What the agent last wrote, or None when it has never run there."""
    try:
        with open(os.path.join(state_dir, NAME), encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
        return Status(**{name: value for name, value in found.items() if name in _FIELDS})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def describe(status: Status, *, alive: bool, now: float) -> tuple[str, int]:
    """The text for the operator and the exit code: 0 all well, 1 trouble."""
    step = status.next_step if alive or status.ended else "start the agent: heat-workflow-agent run"
    in_contact = alive and not status.last_error and now - status.last_contact < SILENCE_LIMIT
    lines = [
        f"agent         {status.agent_id}",
        f"process       {'running' if alive else 'not running'}",
        f"last contact  {_when(status.last_contact, now)}",
        f"last error    {_error(status, now)}",
        f"next step     {step}",
    ]
    return "\n".join(lines), 0 if in_contact else 1


def _when(moment: float, now: float) -> str:
    if not moment:
        return "never"
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    return f"{text} ({max(0.0, now - moment):.0f} s ago)"


def _error(status: Status, now: float) -> str:
    if not status.last_error:
        return "none"
    return f"{_when(status.last_error_at, now)}: {_printable(status.last_error)}"


def _printable(text: str) -> str:
    """On one line, control characters escaped: it may repeat what the other side of a connection said (S40)."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
