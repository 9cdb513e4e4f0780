# SPDX-License-Identifier: Apache-2.0
"""Process: what a process has used so far, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid: int, field: str = "VmRSS") -> float:
    """Memory in KiB: what is resident, or another field of Linux's status of the process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no {field}")


def cpu(pid: int) -> float:
    """Seconds of CPU, in user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def cpu_with_children(pid: int) -> float:
    """Seconds of CPU of the process, of those it started, and of those of them that have ended already."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # it has just ended: what it used is its parent's now
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS + sum(
        cpu_with_children(int(child)) for child in children
    )
