# SPDX-License-Identifier: Apache-2.0
"""Harness: processes that do nothing but fork and end, each in a session of its own and without an environment."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tests.harness.machine import end_process

PYTHON = "/usr/bin/python3"  # the one that every user can start
CHAIN = """
import os
def go():
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()
for _ in range(3):
    if os.fork() == 0:
        go()
"""


def chains(mark: str) -> str:
    """A line of shell that starts three of them, with the mark in their command lines, and returns."""
    return f"env -i {PYTHON} -c {shlex.quote(CHAIN)} {mark}"


def marked(mark: str, looks: int = 10) -> list[int]:
    """The processes that run and have the mark in their command line; one look may miss a chain just between two."""
    return sorted({pid for _ in range(looks) for pid in _marked(mark)})


def end_marked(mark: str) -> None:
    """End them all, however long that takes."""
    while pids := marked(mark):
        for pid in pids:
            end_process(pid)


def _marked(mark: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found
