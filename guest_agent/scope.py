# SPDX-License-Identifier: Apache-2.0
"""The scope: under systemd, hooks live outside the agent's unit, so that a restart of the unit does not touch them."""

from __future__ import annotations

import logging
import os
import subprocess

LOG = logging.getLogger(__name__)

_SYSTEMD = "/run/systemd/system"
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_PATIENCE = 10.0


def leave_unit(pid: int) -> None:
    """Have systemd move the process, and with it all it will start, from our unit into a scope of its own.

    The groups below the scope are ours to make (``cgroup.py``).

    Nothing happens where no systemd runs us. Where it refuses, a restart of the unit ends the hooks that run then: they
    are reported as interrupted.
    """
    if "INVOCATION_ID" not in os.environ or not os.path.isdir(_SYSTEMD) or os.geteuid() != 0:
        return
    properties = ("3", "PIDs", "au", "1", str(pid), "CollectMode", "s", "inactive-or-failed", "Delegate", "b", "1", "0")
    name = f"heat-workflow-hooks-{pid}.scope"
    call = ["busctl", "--quiet", "call", *_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", *properties]
    try:
        subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        LOG.warning("process %d stays in the agent's unit, a restart will end its hooks: %s", pid, type(error).__name__)
