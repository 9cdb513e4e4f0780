# SPDX-License-Identifier: Apache-2.0
"""A control group for each hook, where the machine lets us have one: no fork leaves it, and one word ends all in it.

Only version 2 is used, below the group that the shim is in. A hook as root can move itself elsewhere; it is still
found by descent. Elsewhere too, in containers above all, where the file system is read-only, descent has to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from guest_agent.processes import signal_all

PREFIX = "heat-workflow-hook-"
_FROZEN_WITHIN = 0.5
_FORGOTTEN_AFTER = 86400.0


class Cgroup:
    """The group of one hook."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open_door(self) -> int:
        """A descriptor; the process that writes ``0`` to it is in the group, with all it will start."""
        return os.open(os.path.join(self.path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """The processes in it and in the groups that these have made below it."""
        found: list[int] = []
        for group in _walk(self.path):
            with contextlib.suppress(OSError, ValueError):
                found += [int(pid) for pid in Path(group, "cgroup.procs").read_text().split()]
        return found

    def is_populated(self) -> bool:
        """Whether any process is left in it or below it."""
        return "populated 1" in self._events()

    def kill(self) -> None:
        """End all of them with SIGKILL, whatever they are just forking."""
        if not self._order("cgroup.kill", "1"):
            self.kill_frozen()

    def kill_frozen(self) -> None:
        """The same on kernels before 5.14, which do not know the word: nothing that is frozen forks."""
        frozen = self._order("cgroup.freeze", "1")
        until = time.monotonic() + _FROZEN_WITHIN
        while frozen and "frozen 1" not in self._events() and time.monotonic() < until:
            time.sleep(0.001)
        signal_all(self.pids(), signal.SIGKILL)
        self._order("cgroup.freeze", "0")

    def remove(self) -> None:
        """Give it back. While processes are left that a finished hook was free to leave it stays, for ``tidy``."""
        for group in reversed(list(_walk(self.path))):
            with contextlib.suppress(OSError):
                os.rmdir(group)

    def _order(self, name: str, word: str) -> bool:
        try:
            Path(self.path, name).write_text(word)
        except OSError:
            return False
        return True

    def _events(self) -> str:
        try:
            return Path(self.path, "cgroup.events").read_text()
        except OSError:
            return ""


def make_cgroup(run_name: str) -> Cgroup | None:
    """A group for the hook with that run directory, below our own; None where there can be none."""
    home = _find_home()
    if home is None:
        return None
    _tidy(home)
    path = os.path.join(home, PREFIX + run_name)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
    except OSError:
        return None
    return Cgroup(path)


def find_cgroup(run_name: str) -> Cgroup | None:
    """The group of that hook, wherever the shim that made it was; None when it has none."""
    for mounted, _root in _mounts():
        for group in _walk(mounted):
            if os.path.basename(group) == PREFIX + run_name:
                return Cgroup(group)
    return None


def _find_home() -> str | None:
    """The directory of the group that this process is in."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    for mounted, root in _mounts():
        if own is not None and ".." not in own.split("/") and f"{own}/".startswith(root.rstrip("/") + "/"):
            return os.path.normpath(os.path.join(mounted, os.path.relpath(own, root)))
    return None


def _mounts() -> list[tuple[str, str]]:
    """Where the file system is mounted, and which group is its root there."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    rows = [(line.split(" "), line.partition(" - ")[2].split(" ")[0]) for line in lines]
    return [(fields[4], fields[3]) for fields, kind in rows if kind == "cgroup2"]


def _walk(top: str) -> list[str]:
    """The group and those below it, from the top; without recursion, for a hook may nest its own."""
    found = [top]
    for group in found:
        with contextlib.suppress(OSError), os.scandir(group) as entries:
            found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return found


def _tidy(home: str) -> None:
    """Remove old groups of finished hooks whose last process has ended since."""
    oldest = time.time() - _FORGOTTEN_AFTER
    with contextlib.suppress(OSError), os.scandir(home) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                Cgroup(entry.path).remove()
