# SPDX-License-Identifier: Apache-2.0
"""Starts a hook's program: own session, clean signals, umask 022, nothing open but its three streams."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import NoReturn

from guest_agent.folder import Folder
from guest_agent.order import Order

_SHELL = "/bin/sh"
_UMASK = 0o022


def launch(order: Order, run: Folder) -> tuple[int, int, int]:
    """The new process with the reading ends of its stdout and stderr.

    OSError when the program cannot be executed: then there is no process. The caller is single-threaded, so that
    Python code may run between fork and exec.
    """
    stdin = os.open(order.stdin, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=run.fd)
    (out, out_end), (err, err_end), (failure, failure_end) = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(order, (stdin, out_end, err_end), failure_end)
    for fd in (stdin, out_end, err_end, failure_end):
        os.close(fd)
    with open(failure, "rb") as file:
        number = file.read()
    if number:
        os.waitpid(pid, 0)
        os.close(out)
        os.close(err)
        raise OSError(int(number), os.strerror(int(number)), order.argv[0])
    return pid, out, err


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
        _execute(order)
    except OSError as error:
        os.write(failure_end, b"%d" % (error.errno or errno.EIO))
    finally:
        os._exit(127)


def _execute(order: Order) -> None:
    try:
        os.execve(order.argv[0], order.argv, order.env)  # noqa: S606
    except OSError as error:
        if error.errno != errno.ENOEXEC or not order.shell_fallback:
            raise
    os.execve(_SHELL, (_SHELL, *order.argv), order.env)  # noqa: S606
