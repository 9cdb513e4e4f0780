# SPDX-License-Identifier: Apache-2.0
"""The state directory: whether it can be trusted, who holds it, what lies where in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from pathlib import Path

from guest_agent.errors import StateError
from guest_agent.folder import Folder
from guest_agent.trash import TRASH, Trash

_LOCK = "lock"
_STOPPED = "stopped"
_FILES = (_LOCK, _STOPPED, "credential", "nonce", "status.json", "ca.pem")
_FLOCK = "hhqqi"  # struct flock: kind, whence, start, length, pid


class StateDir:
    """The open state directory with its folders ``spool``, ``run`` and ``trash``, all ours and closed to others."""

    def __init__(self, path: str) -> None:
        """Make what is missing and check the rest; StateError says what to repair."""
        self.path = os.path.abspath(path)
        check_parents(self.path)
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            self.root = Folder(self.path)
            _check_own(self.path, os.fstat(self.root.fd), passable=True)
            self.spool = self._folder("spool")
            self.run = self._folder("run", passable=True)
            self._folder(TRASH).close()
            self.trash = Trash(self.root, self.run)
            self._set_impostors_aside()
        except OSError as error:
            raise StateError(f"state directory {self.path}: {error.strerror or error}") from error
        self._lock: int | None = None

    def lock(self) -> None:
        """Keep every other agent process off this directory until this process ends.

        It is a lock of the process, not of the descriptor: processes forked from this one do not hold it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_LOCK, flags, 0o600, dir_fd=self.root.fd)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise StateError(f"{self.path} is in use by another agent process; stop that one first") from error
        self._lock = fd

    def take_stop_mark(self) -> bool:
        """Whether the process before was stopped on purpose; the mark is gone afterwards."""
        found = self.root.has(_STOPPED)
        self.root.remove(_STOPPED)
        return found

    def _set_impostors_aside(self) -> None:
        """What a hook has put in the place of one of our files and is no file must not keep the agent from starting."""
        for name in _FILES:
            if self.root.has(name) and not self.root.is_file(name):
                self.trash.put(self.root, name)

    def _folder(self, name: str, *, passable: bool = False) -> Folder:
        folder = self.root.child(name, create=True)
        _check_own(folder.path, os.fstat(folder.fd), passable=passable)
        return folder


def find_holder(path: str) -> int | None:
    """The pid of the agent process that holds the lock of that state directory now, None when there is none."""
    try:
        fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _whence, _start, _length, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, wanted))
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else pid


def leave_stop_mark(path: str) -> None:
    """Tell the next agent of that state directory that the one before was stopped on purpose, not brought down by a
    hook. Safe in a signal handler."""
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(os.path.join(path, _STOPPED), flags, 0o600))


def boot_id() -> str:
    """The kernel's name for this boot; another value means everything that ran is gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def check_parents(path: str) -> None:
    """StateError when somebody else could swap a directory above ``path``.

    Each one must belong to root or to us, and be writable by others only if it is sticky.
    """
    above = os.path.dirname(path)
    while True:
        _check_parent(above)
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)


def _check_parent(directory: str) -> None:
    try:
        facts = os.lstat(directory)
    except FileNotFoundError:
        return
    if facts.st_uid not in (0, os.geteuid()):
        raise StateError(f"{directory} belongs to uid {facts.st_uid}; it must belong to root or to the agent's user")
    if stat.S_ISLNK(facts.st_mode):
        check_parents(os.path.realpath(directory))
        _check_parent(os.path.realpath(directory))
    elif facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX:
        raise StateError(f"{directory} can be written by others (mode {facts.st_mode & 0o7777:04o}); take that away")


def _check_own(path: str, facts: os.stat_result, *, passable: bool = False) -> None:
    """StateError for what cannot be trusted. ``passable`` leaves others the way through, which ``run_as`` needs."""
    if facts.st_uid != os.geteuid():
        raise StateError(f"{path} belongs to uid {facts.st_uid}, not to the agent's user (uid {os.geteuid()})")
    if facts.st_mode & 0o022:
        raise StateError(
            f"{path} can be written by others (mode {facts.st_mode & 0o7777:04o}): what is in it cannot be trusted"
        )
    if facts.st_mode & (0o066 if passable else 0o077):
        os.chmod(path, 0o700)
