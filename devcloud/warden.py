# SPDX-License-Identifier: Apache-2.0
"""Warden: the one parent of every process of a devcloud, so that nothing of it outlives the cloud.

It is started by file name with `python -I -S` (it needs only the standard library) and one socket. Each line on the
socket is a command to start, answered with its process id. When the socket closes, because the cloud was stopped or
because its process was killed, the warden ends all that is left and exits. It is a subreaper: what a hook left
behind, also in a session of its own, becomes the warden's child and ends with it.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
TERM_GRACE_S = 3.0


def main(control_fd: int) -> None:
    """Serve start commands until the socket closes, then end every process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    control = socket.socket(fileno=control_fd)
    started: set[int] = set()
    buffer = b""
    while True:
        readable, _, _ = select.select([control.fileno(), wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            _reap(started)
        if control.fileno() in readable:
            data = control.recv(1 << 16)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                pid = _start(json.loads(line))
                started.add(pid)
                control.sendall(b"%d\n" % pid)
    _end_all(started)


def _start(command: dict[str, Any]) -> int:
    argv = command["argv"]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        argv[0],
        argv,
        command["environment"],
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, command["log"], flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setpgroup=0,
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ],
    )


def _reap(started: set[int]) -> bool:
    """Collect whoever has ended; False when there is no child at all."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        started.discard(pid)


def _end_all(started: set[int]) -> None:
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + TERM_GRACE_S
    while started and _reap(started) and time.monotonic() < deadline:
        time.sleep(0.02)
    # Killing a child makes its children ours, so this goes on until there is none.
    while _reap(started):
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _children() -> list[int]:
    children = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as stat:
            # The name in parentheses may hold anything; state and parent follow the last one.
            if stat.read().rpartition(")")[2].split()[1] == str(os.getpid()):
                children.append(int(entry))
    return children


if __name__ == "__main__":
    main(int(sys.argv[1]))
