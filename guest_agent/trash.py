# SPDX-License-Identifier: Apache-2.0
"""The trash: what the agent is done with goes out of the way in one step, and off the disk as far as that lets it.

A hook may leave anything: trees deeper than a path is long, a million files, mounts, files nobody may remove, and
processes that go on changing it all. So nothing here is recursive, follows a link or has a path: a folder found in
what is thrown away is first moved up into the trash itself, and every folder is entered from there alone. What cannot
be moved, a mount above all, is therefore never entered. Nothing here raises, and no call lasts much longer than a
second: what is left is tried again later.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import time

from guest_agent.folder import DIRECTORY, Folder

LOG = logging.getLogger(__name__)

TRASH = "trash"
AT_ONCE = 1.0  # seconds
FIRST_RETRY, LAST_RETRY = 60.0, 3600.0
_TOLD_MOST = 100


class Trash:
    """The folder ``trash`` of the state directory. For one thread."""

    def __init__(self, root: Folder, run: Folder) -> None:
        """In ``root``, or in ``run`` when that turns out to be another file system. OSError when it cannot be made."""
        self._folder = root.child(TRASH, create=True)
        self._run = run
        self._told: set[str] = set()
        self._until = 0.0
        self._stuck = False
        self._retry = FIRST_RETRY
        self._retry_at = float("inf")
        self.is_behind = True  # an agent before may have left something

    def put(self, folder: Folder, name: str) -> bool:
        """Take the name out of the folder; whether the name is free now. It is removed by ``empty``."""
        try:
            self._take(folder.fd, name)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno == errno.EXDEV and self._moved():
                return self.put(folder, name)
            self._tell(folder, name, error)
            self._come_again()
            return False
        self.is_behind = True
        return True

    def throw(self, folder: Folder, name: str) -> bool:
        """``put`` and ``empty``."""
        free = self.put(folder, name)
        self.empty()
        return free

    def empty(self, seconds: float = AT_ONCE) -> None:
        """Remove what is there. ``is_behind`` tells that the time was too short; what cannot be removed stays."""
        self._until = time.monotonic() + seconds
        self._stuck = False
        try:
            while self._pass_over():
                self._stuck = False
        except _TimeOver:
            return
        except OSError as error:
            self._tell(self._folder, "", error)
            self._stuck = True
        self.is_behind = False
        if self._stuck:
            self._come_again()
        else:
            self._retry, self._retry_at = FIRST_RETRY, float("inf")

    def tend(self) -> bool:
        """Go on with what is behind, or try again what could not be removed; whether the time for the latter came."""
        due = time.monotonic() >= self._retry_at
        if due:
            self._retry, self._retry_at = min(LAST_RETRY, 2 * self._retry), float("inf")
        if due or self.is_behind:
            self.empty()
        return due

    def _come_again(self) -> None:
        self._retry_at = min(self._retry_at, time.monotonic() + self._retry)

    def _moved(self) -> bool:
        """Have the trash in the other place; whether it was not there already."""
        try:
            there = self._run.child(TRASH, create=True)
        except OSError as error:
            self._tell(self._run, TRASH, error)
            return False
        if os.path.samestat(os.fstat(there.fd), os.fstat(self._folder.fd)):
            there.close()
            return False
        self._folder.close()
        self._folder = there
        return True

    def _take(self, fd: int, name: str) -> None:
        fresh = secrets.token_hex(8)
        try:
            os.rename(name, fresh, src_dir_fd=fd, dst_dir_fd=self._folder.fd)
        except PermissionError:
            _open_up(fd, name)  # a folder that its owner cannot write cannot be moved
            os.rename(name, fresh, src_dir_fd=fd, dst_dir_fd=self._folder.fd)

    def _pass_over(self) -> bool:
        """Try everything in the trash once; whether anything went away or was moved."""
        moved = False
        with os.scandir(self._folder.fd) as entries:
            for entry in entries:
                self._check_time()
                try:
                    moved |= self._remove_folder(entry.name) if _is_folder(entry) else self._unlink(entry.name)
                except OSError as error:
                    self._keep(self._folder, entry.name, error)
        return moved

    def _unlink(self, name: str) -> bool:
        os.unlink(name, dir_fd=self._folder.fd)
        return True

    def _remove_folder(self, name: str) -> bool:
        """One folder of the trash: what is in it, then the folder; whether anything went away or was moved."""
        inner = self._enter(name)
        try:
            moved = self._clear(inner)
        finally:
            inner.close()
        try:
            os.rmdir(name, dir_fd=self._folder.fd)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            return moved
        return True

    def _enter(self, name: str) -> Folder:
        try:
            inner = self._folder.child(name)
        except PermissionError:
            _open_up(self._folder.fd, name)
            inner = self._folder.child(name)
        with contextlib.suppress(OSError):
            os.fchmod(inner.fd, 0o700)
        return inner

    def _clear(self, inner: Folder) -> bool:
        """Files go, folders move up; whether any did. Somebody may still be adding some."""
        moved = False
        with os.scandir(inner.fd) as entries:
            for entry in entries:
                self._check_time()
                try:
                    if _is_folder(entry):
                        self._take(inner.fd, entry.name)
                    else:
                        os.unlink(entry.name, dir_fd=inner.fd)
                    moved = True
                except FileNotFoundError:
                    moved = True
                except OSError as error:
                    self._keep(inner, entry.name, error)
        return moved

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            self.is_behind = True
            raise _TimeOver

    def _keep(self, folder: Folder, name: str, error: OSError) -> None:
        self._stuck = True
        self._tell(folder, name, error)

    def _tell(self, folder: Folder, name: str, error: OSError) -> None:
        """Once for each, and not for each of thousands."""
        where = ascii(os.path.join(folder.path, name))
        if where in self._told or len(self._told) >= _TOLD_MOST:
            return
        self._told.add(where)
        LOG.warning("%s cannot be removed, it is left aside and tried again: %s", where, error.strerror)


class _TimeOver(Exception):
    """The call has lasted long enough."""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _open_up(fd: int, name: str) -> None:
    """Give the owner of a folder all rights on it; OSError when it is none or we may not."""
    handle = os.open(name, os.O_PATH | DIRECTORY, dir_fd=fd)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
