# SPDX-License-Identifier: Apache-2.0
"""Shutdown: whether a hook's end was the machine's, which is an interruption and not an outcome."""

from __future__ import annotations

import select
import signal
import subprocess

_ENDED_BY = tuple(128 + number for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL))
_PATIENCE = 10.0
_AGENT_ENDS_WITHIN = 30_000  # milliseconds


def is_cut_off(code: int | None) -> bool:
    """Whether a hook that ended with this status was ended because the machine goes down. Only systemd is asked."""
    if code not in _ENDED_BY:
        return False
    ask = ["systemctl", "is-system-running"]
    try:
        said = subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return said.stdout.strip() == b"stopping"


def outlast_agent(alive: int) -> None:
    """Return when the agent that holds the other end has gone: it must not see this hook end before the boot."""
    poller = select.poll()
    poller.register(alive, 0)  # an error is told without being asked for
    poller.poll(_AGENT_ENDS_WITHIN)
