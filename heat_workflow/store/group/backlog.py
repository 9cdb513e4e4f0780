# SPDX-License-Identifier: Apache-2.0
"""Backlog: how many turns may wait for their group (Q9)."""

from __future__ import annotations

import asyncio
from typing import Any

from heat_workflow import errors
from heat_workflow.store import Asks

_TURNS_MOST = 4096
_CLAIMS_MOST = 3072  # of them all; a report stands for work that was done, so it is refused last
_SIZE_MOST = 64 * 1024 * 1024  # bytes


class Backlog:
    """Counts the turns from when they come until they are answered. For the event loop's thread."""

    def __init__(self) -> None:
        self.turns = 0
        self.size = 0

    def enter(self, asks: Asks, future: asyncio.Future[Any]) -> None:
        """Count the turn until ``future`` is done. Unavailable if too much waits already."""
        most = _CLAIMS_MOST if asks.task is None else _TURNS_MOST
        if self.turns >= most or self.size + asks.size > _SIZE_MOST:
            raise errors.Unavailable("too many requests wait for the store; repeat the request", retry_after=2)
        self.turns += 1
        self.size += asks.size
        future.add_done_callback(lambda _: self._leave(asks.size))

    def _leave(self, size: int) -> None:
        self.turns -= 1
        self.size -= size
