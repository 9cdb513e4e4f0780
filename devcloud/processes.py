# SPDX-License-Identifier: Apache-2.0
"""Processes: handles to start, stop and kill the processes of a devcloud, each a child of its warden."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devcloud import warden
from devcloud.settings import DevCloudError

STOP_GRACE_S = 5.0
ANSWER_S = 60.0
LOG_TAIL_LINES = 30


class Warden:
    """The connection to the warden process; closing it ends every process that it started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start the warden itself, in a session of its own: Ctrl-C in the terminal reaches only the caller."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", warden.__file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=self._directory,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )

    def start(self, argv: Sequence[str], log_path: Path, environment: Mapping[str, str]) -> int:
        """Start a process whose output is appended to the log file; its process id."""
        if self._socket is None:
            raise DevCloudError(f"{argv[2]} cannot be started: the cloud in {self._directory} is not up")
        request = {"argv": list(argv), "environment": dict(environment), "log": str(log_path)}
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                part = self._socket.recv(64)
                if not part:
                    raise DevCloudError(f"the warden ended while it should start {' '.join(argv)}")
                answer += part
        return int(answer)

    def close(self) -> None:
        """End every process that is left; returns when they are gone."""
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait()
            self._socket = self._process = None


class Process:
    """One process of the cloud, which may be ended and started again."""

    def __init__(
        self, warden: Warden, name: str, argv: Sequence[str], log_path: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._warden = warden
        self._argv = argv
        self._environment = {**_inherited_environment(), **environment}
        self._pid: int | None = None
        # Not our child, so it is waited for through a pidfd, which no reuse of its id can mislead.
        self._pidfd: int | None = None

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        if self._pid is None:
            raise DevCloudError(f"{self.name} was never started")
        return self._pid

    @property
    def is_alive(self) -> bool:
        """Whether it is running now."""
        return not self._ends_within(0)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, within these seconds at most."""
        return self._ends_within(seconds)

    def start(self) -> None:
        """Start it; nothing happens if it is running."""
        if self.is_alive:
            return
        self._forget()
        self._pid = self._warden.start(self._argv, self.log_path, self._environment)
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            self._pidfd = None

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL after 5 s; returns when it is gone."""
        self.send_signal(signal.SIGTERM)
        if not self._ends_within(STOP_GRACE_S):
            self.send_signal(signal.SIGKILL)
        self._await_gone()

    def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""
        self.send_signal(signal.SIGKILL)
        self._await_gone()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal (SIGSTOP and SIGCONT are useful too); nothing happens if it is gone."""
        if self._pidfd is None:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        if not self.log_path.exists():
            return "(nothing)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _ends_within(self, seconds: float | None) -> bool:
        if self._pidfd is None:
            return True
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(None if seconds is None else seconds * 1000))

    def _await_gone(self) -> None:
        self._ends_within(None)
        # It has ended; now until the warden has collected it, so that its id means nothing any more.
        while self._pidfd is not None:
            try:
                signal.pidfd_send_signal(self._pidfd, 0)
            except ProcessLookupError:
                self._forget()
            else:
                time.sleep(0.001)

    def _forget(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


class Server(Process):
    """A process that serves requests: started means that it answers."""

    def __init__(
        self, warden: Warden, name: str, argv: Sequence[str], log_path: Path, answers: Callable[[], bool]
    ) -> None:
        super().__init__(warden, name, argv, log_path, {})
        self._answers = answers

    def start(self) -> None:
        """Start it and return when it answers; DevCloudError with the end of its log if it does not."""
        self.launch()
        self.wait_until_answering()

    def launch(self) -> None:
        """Start it without waiting."""
        super().start()

    def wait_until_answering(self) -> None:
        """Return when it answers; DevCloudError if it ends first, or takes longer than 60 s."""
        deadline = time.monotonic() + ANSWER_S
        while not self._answers():
            if not self.is_alive:
                raise self._failure("ended")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer in {ANSWER_S:.0f} s")
            time.sleep(0.05)

    def _failure(self, what: str) -> DevCloudError:
        return DevCloudError(f"{self.name} {what}; the last lines of {self.log_path}:\n{self.log_tail()}")


def _inherited_environment() -> dict[str, str]:
    # The caller's own cloud must not reach into this one.
    return {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
