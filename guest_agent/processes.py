# SPDX-License-Identifier: Apache-2.0
"""Processes under a process: adopt orphans, find all of them, signal all of them."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that setsid is no way out."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def descendants(root: int) -> list[int]:
    """Every living process below ``root`` (zombies are not living)."""
    children: dict[int, list[int]] = {}
    zombies: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        facts = _state_and_parent(int(name))
        if facts is None:
            continue
        children.setdefault(facts[1], []).append(int(name))
        if facts[0] in "ZX":
            zombies.add(int(name))
    found: list[int] = []
    frontier = [root]
    while frontier:
        below = children.get(frontier.pop(), [])
        found.extend(below)
        frontier.extend(below)
    return [pid for pid in found if pid not in zombies]


def children() -> list[int]:
    """The children of this process, zombies too. It must be single-threaded. Much quicker than ``descendants``."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return descendants(os.getpid())


def having_in_environment(entry: bytes) -> list[int]:
    """Every process that was started with this ``NAME=value`` and that we may look at."""
    return _having("environ", entry)


def having_argument(argument: bytes) -> list[int]:
    """Every process of our user that has this word in its command line."""
    found = []
    for pid in _having("cmdline", argument):
        try:
            if os.stat(f"/proc/{pid}").st_uid == os.geteuid():
                found.append(pid)
        except OSError:
            continue
    return found


def _having(file_name: str, entry: bytes) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/{file_name}", "rb") as file:
                if entry in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue
    return found


def signal_all(pids: list[int], number: int) -> None:
    """Send the signal to each; one that is gone is no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            continue


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _state_and_parent(pid: int) -> tuple[str, int] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split(b" ", 2)
    return fields[0].decode(), int(fields[1])
