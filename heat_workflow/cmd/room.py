# SPDX-License-Identifier: Apache-2.0
"""Room: how many connections one process keeps, so that idle ones never use up what the operating system gives it."""

from __future__ import annotations

import logging
import resource
from typing import Protocol

LOG = logging.getLogger(__name__)
KEPT_BACK = 128  # descriptors for the database, files and keystone
_LEAST = 64


class Connection(Protocol):
    """What a connection can be asked for when there is no more room."""

    def make_room(self, busy: bool) -> None:
        """End now; with ``busy`` the caller is told that every other connection is in use."""


def connections_most() -> int:
    """How many connections the descriptors of this process allow, after asking for as many as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > soft):
        soft = min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else 1 << 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(soft - KEPT_BACK, _LEAST) if soft != resource.RLIM_INFINITY else 1 << 20


class Room:
    """The connections of one process. Above ``most`` the one that has been idle for longest goes, first among those
    that never asked for anything, so that whoever has something to ask gets in; only if none is idle the newest."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._all: set[Connection] = set()
        self._silent: dict[Connection, None] = {}  # in the order of their coming
        self._idle: dict[Connection, None] = {}  # in the order in which their last answer ended
        self.ended = 0

    def enter(self, connection: Connection) -> None:
        self._all.add(connection)
        self._silent[connection] = None
        if len(self._all) > self.most:
            self._make_room(connection)

    def busy(self, connection: Connection) -> None:
        """It asks for something."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """It has its answer."""
        if connection in self._all:
            self._idle[connection] = None

    def leave(self, connection: Connection) -> None:
        self._all.discard(connection)
        self.busy(connection)

    def _make_room(self, newest: Connection) -> None:
        victim = next((c for c in (*self._silent, *self._idle) if c is not newest), newest)
        self.ended += 1
        LOG.warning(
            "%d connections are all that the limit of open files allows: one that %s is ended. Raise LimitNOFILE, or "
            "bound the connections of one address at the proxy",
            self.most,
            "just came" if victim is newest else "was idle",
        )
        self.leave(victim)
        victim.make_room(busy=victim is newest)
