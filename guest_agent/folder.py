# SPDX-License-Identifier: Apache-2.0
"""A directory held open: every file in it is reached by name, never through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from guest_agent.failpoints import failpoint

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """One directory by descriptor. A name holding ``/`` is refused with FileNotFoundError."""

    def __init__(self, path: str, dir_fd: int | None = None) -> None:
        self.path = path
        self.fd = os.open(path if dir_fd is None else os.path.basename(path), DIRECTORY, dir_fd=dir_fd)

    def close(self) -> None:
        """Give the descriptor back; may be repeated."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def child(self, name: str, *, create: bool = False) -> Folder:
        """The folder ``name`` in this one; with ``create`` it is made (0700) when it is not there."""
        if create:
            with suppress(FileExistsError):
                os.mkdir(_plain(name), 0o700, dir_fd=self.fd)
        return Folder(os.path.join(self.path, _plain(name)), self.fd)

    def names(self) -> list[str]:
        """The names in it, sorted."""
        return sorted(os.listdir(self.fd))

    def has(self, name: str) -> bool:
        """Whether there is anything of that name."""
        try:
            os.stat(_plain(name), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def is_file(self, name: str) -> bool:
        """Whether that is a regular file, and no link to one; FileNotFoundError when there is nothing."""
        return stat.S_ISREG(os.stat(_plain(name), dir_fd=self.fd, follow_symlinks=False).st_mode)

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """A regular file open for reading with its facts; OSError for a link, a pipe, a device."""
        fd = os.open(_plain(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(f"{name} is not a regular file")
            yield fd, facts
        finally:
            os.close(fd)

    def read(self, name: str, limit: int) -> bytes:
        """At most ``limit`` bytes of a regular file."""
        with self.opened(name) as (fd, _facts):
            return read_up_to(fd, limit)

    def create(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Write a new file; FileExistsError when the name is taken. Not flushed to the disk."""
        os.close(self._write(name, data, mode))

    def replace(self, name: str, data: bytes, *, durable: bool, mode: int = 0o600) -> None:
        """Put ``data`` under ``name`` in one step: a reader sees the old or the new, never half.

        With ``durable`` it is on the disk, name included, when this returns.
        """
        temporary = f".tmp.{os.getpid()}.{name}"
        self.remove(temporary)
        try:
            fd = self._write(temporary, data, mode)
            failpoint("written", name)
            try:
                if durable:
                    os.fsync(fd)
                    failpoint("synced", name)
            finally:
                os.close(fd)
            os.rename(temporary, _plain(name), src_dir_fd=self.fd, dst_dir_fd=self.fd)
            failpoint("renamed", name)
        except OSError:
            self.remove(temporary)
            raise
        if durable:
            os.fsync(self.fd)
            failpoint("flushed", name)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in this folder, over what had it."""
        os.rename(_plain(old), _plain(new), src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        with suppress(FileNotFoundError):
            os.unlink(_plain(name), dir_fd=self.fd)

    def remove_all(self, name: str) -> None:
        """Remove a folder of ours with the files in it; what cannot be removed stays."""
        with suppress(OSError):
            inner = self.child(name)
            for entry in inner.names():
                with suppress(OSError):
                    inner.remove(entry)
            inner.close()
            os.rmdir(name, dir_fd=self.fd)

    def _write(self, name: str, data: bytes, mode: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_plain(name), flags, mode, dir_fd=self.fd)
        try:
            os.fchmod(fd, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        except OSError:
            os.close(fd)
            raise
        return fd


def read_up_to(fd: int, limit: int) -> bytes:
    """What the descriptor gives, up to ``limit`` bytes or its end."""
    parts: list[bytes] = []
    while limit > 0:
        part = os.read(fd, min(limit, 1 << 20))
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _plain(name: str) -> str:
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise FileNotFoundError(f"{name!r} is not the name of a file")
    return name
