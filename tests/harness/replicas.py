# SPDX-License-Identifier: Apache-2.0
"""Harness: API replicas on one store, each a process that tests kill, stop and start again on the same port."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from heat_workflow.failpoints import VARIABLE
from heat_workflow.store.keyring import KeyRing
from tests.harness.nursery import Child, Nursery
from tests.harness.servers import free_port


class Replica:
    """One API process."""

    def __init__(self, nursery: Nursery, directory: Path, connection: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._nursery = nursery
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / f"api-{self.port}.log"
        ring = directory / "keys.json"
        if not ring.exists():
            KeyRing().with_new_key().save(str(ring))
        self._conf = directory / f"api-{self.port}.conf"
        self._conf.write_text(
            f"[api]\nbind_port = {self.port}\nauth_strategy = noauth\n"
            f"[database]\nconnection = {connection}\n[secrets]\nkey_file = {ring}\n"
        )
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def start(self, failpoint: str = "", before: str | None = None) -> None:
        """Start and wait until it listens, or died of its failpoint on the way there."""
        argv = ["--config-file", str(self._conf)]
        self._child = self._nursery.fork(argv, self.log, {VARIABLE: failpoint}, before)
        deadline = time.monotonic() + 60
        while not self._listens():
            if self._child.ended(0.01) and failpoint:
                return
            assert not self._child.ended(), f"the API did not start: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"the API does not listen: {self.log.read_text()[-2000:]}"

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False

    def ended(self, within: float = 0) -> bool:
        return self._child is None or self._child.ended(within)

    @property
    def status(self) -> int:
        """How the process ended."""
        assert self._child is not None
        return self._child.status

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is closed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)
            assert self._child.ended(30), f"process {self._child.pid} does not end"

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP for the time of the block: it holds what it holds and says nothing."""
        assert self._child is not None
        self._child.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._child.signal(signal.SIGCONT)


@contextlib.contextmanager
def replicas(
    nursery: Nursery, directory: Path, connection: str, count: int, before: str | None = None
) -> Iterator[list[Replica]]:
    """So many running replicas with one key ring."""
    made = [Replica(nursery, directory, connection) for _ in range(count)]
    try:
        for replica in made:
            replica.start(before=before)
        yield made
    finally:
        for replica in made:
            replica.kill()
