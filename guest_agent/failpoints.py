# SPDX-License-Identifier: Apache-2.0
"""Failpoints: named moments at which a test makes the agent, its zygote or a shim die, as by kill -9.

``HEAT_WORKFLOW_AGENT_FAILPOINTS`` names a directory. A process that comes to the moment ``NAME`` dies there if it can
remove the file ``NAME`` from that directory: each file kills one process, whichever comes first. Without the variable,
as always in production, a failpoint does nothing.
"""

from __future__ import annotations

import functools
import os
import signal

VARIABLE = "HEAT_WORKFLOW_AGENT_FAILPOINTS"


def failpoint(name: str, file: str = "") -> None:
    """Die here if a test has armed it. A moment of a ``file`` is ``FILE.NAME``; of a spool's record, ``STAGE.NAME``."""
    directory = _directory()
    if not directory:
        return
    parts = file.split(".")
    stem = parts[3] if len(parts) == 4 else file
    try:
        os.unlink(os.path.join(directory, f"{stem}.{name}" if stem else name))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _directory() -> str:
    return os.environ.get(VARIABLE, "")
