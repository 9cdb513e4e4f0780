# SPDX-License-Identifier: Apache-2.0
"""The zygote: a bare process made before the agent has secrets or threads; it forks a shim for each hook.

Forking costs a millisecond where a new interpreter costs fifty. It ends when the agent's end of the socket closes.
"""

from __future__ import annotations

import ctypes  # noqa: F401  (loaded here once, so that no shim has to)
import gc
import os
import signal
import socket
import traceback

from guest_agent.failpoints import failpoint
from guest_agent.shim import run_shim

REQUEST_LIMIT = 4096


def fork_zygote() -> tuple[int, socket.socket]:
    """A zygote forked from this process, which must be single-threaded: its pid and the socket to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            serve(theirs)
        except BaseException:  # a forked copy must never go on as the agent
            traceback.print_exc()
        finally:
            os._exit(0)
    theirs.close()
    return pid, ours


def serve(requests: socket.socket) -> None:
    """Fork a shim for each request (a run directory and the ``alive`` descriptor) until the agent is gone."""
    os.setsid()
    gc.disable()
    gc.freeze()  # a collection in a shim would copy every page shared with us
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, fds, _flags, _address = socket.recv_fds(requests, REQUEST_LIMIT, 1)
        if not message:
            return
        failpoint("zygote.heard")
        os.set_inheritable(fds[0], False)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            _be_shim(os.fsdecode(message), fds[0])
        failpoint("zygote.forked")
        os.close(fds[0])


def _be_shim(run_path: str, alive: int) -> None:
    try:
        run_shim(run_path, alive)
    except BaseException:  # the agent learns of it by the closing of ``alive`` without a report
        traceback.print_exc()
    finally:
        os._exit(0)
