# SPDX-License-Identifier: Apache-2.0
"""Serving: uvicorn, with an end in which everybody who waits is answered and which does not take long."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable

import uvicorn

LOG = logging.getLogger(__name__)
ANSWER_MOST = 2  # seconds for requests under way; then they are answered 503
END_MOST = 4.5  # seconds from the signal to the end of the process


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT.

    uvicorn tells the application that it ends after the last request is over, but here requests wait for news: so
    they are told first. What then still runs (a statement on a database that does not answer, say) is left where it
    is: its caller has no answer and repeats it, as after a crash.
    """

    def __init__(self, config: uvicorn.Config, end_waits: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_waits = end_waits

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _end_within(END_MOST)
        self._end_waits()
        await super().shutdown(sockets)


def _end_within(seconds: float) -> None:
    """Let the process be gone by then, whatever its threads wait for."""

    def end() -> None:
        LOG.warning("The process ends with work under way after %g s", seconds)
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
