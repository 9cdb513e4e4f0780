# SPDX-License-Identifier: Apache-2.0
"""Starts a hook's program: own session, clean signals, umask 022, its user, nothing open but its three streams."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from dataclasses import dataclass
from typing import NoReturn

from guest_agent.cgroup import Cgroup
from guest_agent.folder import Folder
from guest_agent.order import Order
from guest_agent.user import become

_SHELL = "/bin/sh"
_UMASK = 0o022
_OPEN_FILES = (1024, 524288)  # soft and hard, what systemd gives a service


_NO_CGROUP = b"c"


@dataclass(frozen=True)
class Launched:
    """The new process, the reading ends of its stdout and stderr, and whether it is in the cgroup it was to be in."""

    pid: int
    stdout: int
    stderr: int
    in_cgroup: bool


def launch(order: Order, run: Folder, cgroup: Cgroup | None = None) -> Launched:
    """OSError when the program cannot be executed: then there is no process. The caller is single-threaded, so that
    Python code may run between fork and exec.
    """
    stdin = os.open(order.stdin, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=run.fd)
    (out, out_end), (err, err_end), (failure, failure_end) = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _enter(cgroup, failure_end)
        _become(order, (stdin, out_end, err_end), failure_end)
    for fd in (stdin, out_end, err_end, failure_end):
        os.close(fd)
    with open(failure, "rb") as file:
        told = file.read()
    number = told.lstrip(_NO_CGROUP)
    if number:
        os.waitpid(pid, 0)
        os.close(out)
        os.close(err)
        raise OSError(int(number), os.strerror(int(number)), order.argv[0])
    return Launched(pid, out, err, cgroup is not None and not told.startswith(_NO_CGROUP))


def _enter(cgroup: Cgroup | None, failure_end: int) -> None:
    if cgroup is None:
        return
    try:
        door = cgroup.open_door()
        os.write(door, b"0")
        os.close(door)
    except OSError:
        os.write(failure_end, _NO_CGROUP)


def _become(order: Order, streams: tuple[int, int, int], failure_end: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        os.umask(_UMASK)
        os.chdir(order.cwd)
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
        _set_limits(order.file_size)
        if order.user is not None:
            become(order.user)
        _execute(order)
    except OSError as error:
        os.write(failure_end, b"%d" % (error.errno or errno.EIO))
    finally:
        os._exit(127)


def _set_limits(file_size: int) -> None:
    """No core dump, for it would hold inputs; the usual number of open files. None is raised above what we have."""
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = _OPEN_FILES[1] if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES[0], most), most))


def _execute(order: Order) -> None:
    try:
        os.execve(order.argv[0], order.argv, order.env)  # noqa: S606
    except OSError as error:
        if error.errno != errno.ENOEXEC or not order.shell_fallback:
            raise
    os.execve(_SHELL, (_SHELL, *order.argv), order.env)  # noqa: S606
