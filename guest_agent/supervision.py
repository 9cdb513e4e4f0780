# SPDX-License-Identifier: Apache-2.0
"""One hook from its start to its end: timeout, cancel, what it writes, and the end of all it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass

from guest_agent.cgroup import Cgroup, make_cgroup
from guest_agent.folder import Folder
from guest_agent.hooks.telling import bounded, find_line
from guest_agent.launch import launch
from guest_agent.live_log import LogWriter
from guest_agent.order import CANCEL_FILE, CONTROL_PIPE, Order
from guest_agent.processes import children, descendants, signal_all
from guest_agent.pump import Capture, Pump, latest_first
from guest_agent.untrusted import as_seconds, read_json

GRACE = 10.0
GRACE_MOST = 600.0
LINGER = 0.25
GIVE_UP = 10.0
_RESCAN = 0.05
_HUNT = 0.2
_LONGEST_WAIT = 3600.0
ANSWER_LIMIT = 16 * 1024 * 1024


@dataclass
class Ending:
    """How it ended. ``stopped`` is "" for an end of its own, else the status to report, ``why``, and what it ``said``
    last before. ``survivors`` says in words what may be running in spite of that."""

    code: int | None = None
    stopped: str = ""
    why: str = ""
    said: str = ""
    survivors: str = ""


class Supervision:
    """Runs the command of an order. The process must be single-threaded and adopt orphans.

    Every time is monotonic. What a hook leaves running when it ends by itself stays; timeout and cancel end it all:
    SIGTERM to every process, after the grace SIGKILL until none is left. That none is left is certain when this process
    has no child any more: as long as anything descends from it, something is its child.
    """

    def __init__(self, order: Order, run: Folder) -> None:
        """Start the command; OSError when it cannot be executed."""
        self._run = run
        self.ending = Ending()
        self._log = LogWriter(run)
        self.stdout = Capture(ANSWER_LIMIT) if order.answers else Capture(tee=self._log.taker("stdout"))
        self.stderr = Capture(tee=self._log.taker("stderr"))
        self._control = os.open(CONTROL_PIPE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=run.fd)
        self._wakeup = _child_wakeup()
        self._cgroup = make_cgroup(order.attempt.run_name)
        try:
            launched = launch(order, run, self._cgroup)
        except OSError:
            self._give_cgroup_back()
            raise
        if not launched.in_cgroup:
            self._give_cgroup_back()
        self._pid = launched.pid
        self.pump = Pump({launched.stdout: self.stdout, launched.stderr: self.stderr})
        self._end_at, self._end_why = _deadline(order, time.monotonic())
        self._kill_at = self._give_up_at = float("inf")
        self._obey_cancel()

    def run_to_end(self) -> Ending:
        """Block until the hook is over: ended by itself, or stopped with everything it had started."""
        while not self._is_over():
            self._wait(self._next_time())
            self._log.write()
            now = time.monotonic()
            if not self.ending.stopped and now >= self._end_at:
                self._stop("timed_out", self._end_why, GRACE)
            if now >= self._kill_at:
                self._kill()
        self._give_cgroup_back()
        self._linger()
        self._log.write(due_only=False)
        return self.ending

    def drain(self) -> None:
        """Read and forget what a process left running still writes, until it closes its pipes."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while self.pump.fds:
            for fd in select.select(self.pump.fds, [], [])[0]:
                self.pump.move(fd)

    def _is_over(self) -> bool:
        childless = self._reap()
        if not self.ending.stopped:
            return self.ending.code is not None
        if childless and not (self._cgroup and self._cgroup.is_populated()):
            return True
        if time.monotonic() < self._give_up_at:
            return False
        self.ending.survivors = surviving(self._processes(), self._cgroup)
        return True

    def _kill(self) -> None:
        if self._cgroup is not None:
            self._cgroup.kill()
        signal_all(descendants(os.getpid()), signal.SIGKILL)
        until = time.monotonic() + _HUNT
        while not self._reap() and time.monotonic() < until:
            signal_all(children(), signal.SIGKILL)  # quick enough to catch what does nothing but fork and end

    def _processes(self) -> list[int]:
        return sorted({*descendants(os.getpid()), *(self._cgroup.pids() if self._cgroup else ())})

    def _give_cgroup_back(self) -> None:
        """It stays where processes are left in it, and is not needed any more by us."""
        if self._cgroup is not None:
            self._cgroup.remove()
            self._cgroup = None

    def _next_time(self) -> float:
        """Seconds to wait at most. While stopping, a process that is no child of ours ends without a signal to us."""
        if self.ending.stopped:
            return _RESCAN
        return min(_LONGEST_WAIT, max(0.0, self._end_at - time.monotonic()), self._log.seconds_left())

    def _wait(self, timeout: float) -> None:
        poller = select.poll()
        for fd in (self._control, self._wakeup, *self.pump.fds):
            poller.register(fd, select.POLLIN)
        for fd, _event in poller.poll(timeout * 1000 + 1):
            if fd == self._control:
                self._obey_cancel(_taken(fd))
            elif fd == self._wakeup:
                _taken(fd)
            else:
                self.pump.move(fd)

    def _obey_cancel(self, told: bytes = b"") -> None:
        """A cancel from before the pipe was open is in the file; on a full disk it is ``told`` by pipe alone."""
        with contextlib.suppress(OSError):
            if self._run.has(CANCEL_FILE):
                told = self._run.read(CANCEL_FILE, 4096)
        if self.ending.stopped or not told:
            return
        try:
            wish = read_json(told.partition(b"\n")[0])
        except (ValueError, RecursionError):
            wish = None
        if isinstance(wish, dict):
            grace = as_seconds(wish.get("grace"), GRACE, 0.0, GRACE_MOST)
            self._stop(str(wish.get("status", "cancelled")), str(wish.get("why", "")), grace)

    def _stop(self, status: str, why: str, grace: float) -> None:
        self.ending.stopped, self.ending.why = status, why
        self.ending.said = bounded(find_line(*(stream.text() for stream in latest_first(self.stdout, self.stderr))))
        self._kill_at = time.monotonic() + grace
        self._give_up_at = self._kill_at + GIVE_UP
        signal_all(self._processes(), signal.SIGTERM)

    def _reap(self) -> bool:
        """Take note of the children that have ended; whether there are none any more."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)
                self.ending.code = code if code >= 0 else 128 - code

    def _linger(self) -> None:
        """Take what is in the pipes; wait a moment for a writer that is about to end (``exec > >(tee log)``)."""
        until = time.monotonic() + LINGER
        while self.pump.fds and time.monotonic() < until:
            ready = select.select(self.pump.fds, [], [], max(0.0, until - time.monotonic()))[0]
            for fd in ready:
                self.pump.move(fd)


def surviving(pids: list[int], cgroup: Cgroup | None) -> str:
    """In words, what of a hook was not seen to end."""
    named = f"pids {', '.join(map(str, pids[:20]))}" if pids else "they come and go too fast to be named"
    without = "" if cgroup else "; this machine gives the agent no cgroup by which it could end all of them"
    return f"processes of the hook may still be running in spite of SIGKILL: {named}{without}"


def _deadline(order: Order, now: float) -> tuple[float, str]:
    """When it must end at the latest, and what to say then."""
    limits = []
    if order.timeout is not None:
        limits.append((now + order.timeout, f"it ran longer than its timeout of {order.timeout:g} s"))
    if order.deadline_in is not None:
        limits.append((now + order.deadline_in, "the deadline of the task has passed"))
    return min(limits, default=(float("inf"), ""))


def _child_wakeup() -> int:
    """A descriptor that becomes readable when a child ends."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _taken(fd: int) -> bytes:
    """What is in the pipe, which is empty afterwards."""
    found = b""
    try:
        while data := os.read(fd, 4096):
            found += data
    except BlockingIOError:
        pass
    return found
