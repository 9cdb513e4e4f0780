# SPDX-License-Identifier: Apache-2.0
"""Process: what a process has used so far, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB_PAGE = os.sysconf("SC_PAGE_SIZE") / 1024


def memory(pid: int) -> float:
    """Resident memory in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _KIB_PAGE


def cpu(pid: int) -> float:
    """Seconds of CPU, in user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
