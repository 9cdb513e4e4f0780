# SPDX-License-Identifier: Apache-2.0
"""Harness: processes that do nothing but fork and end, each in a session of its own and without an environment.

Looking through /proc misses them more often than not, which is their point. So each leaves a byte in a file: while the
file grows they run. When it is removed they end.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

from tests.harness.machine import end_process

PYTHON = "/usr/bin/python3"  # the one that every user can start
CHAIN = """
import os, sys
trace = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def go():
    while os.fstat(trace).st_nlink:
        if os.fork():
            os._exit(0)
        os.setsid()
        os.write(trace, b".")
for _ in range(3):
    if os.fork() == 0:
        go()
"""
_QUIET = 1.0


def chains(trace: Path) -> str:
    """A line of shell that starts three of them, which leave their trace in that file, and returns."""
    return f"env -i {PYTHON} -c {shlex.quote(CHAIN)} {trace}"


def running(trace: Path) -> bool:
    """Whether any of those chains runs; to be told that none does takes a second."""
    size, until = trace.stat().st_size, time.monotonic() + _QUIET
    while trace.stat().st_size == size:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def marked(mark: str) -> list[int]:
    """The processes that run and have the mark in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def end_marked(mark: str) -> None:
    """End them all."""
    for pid in marked(mark):
        end_process(pid)
