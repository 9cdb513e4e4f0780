# SPDX-License-Identifier: Apache-2.0
"""Listening: one connection to PostgreSQL that hears notifications, made as the engine makes its own.

A connection on which nothing is said looks the same whether there is no news or nobody on the other side: a server that
stands still keeps it open for ever. So after some silence the server is asked, and has to answer in time.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import sqlalchemy as sa

SILENCE_MOST = 10.0  # seconds without news after which the server is asked
ANSWER_MOST = 5.0  # seconds in which it has to answer then


@contextlib.contextmanager
def listening(engine: sa.Engine, connect_args: Mapping[str, Any], channel: str) -> Iterator[Ear]:
    """An ear on the channel. The URL counts as it does for the engine: several hosts are tried in turn, with the same
    timeouts, TLS and session attributes. Raises psycopg.Error, also from the ear, when the server is not there."""
    arguments, named = engine.dialect.create_connect_args(engine.url)
    connection: Any = engine.dialect.connect(*arguments, **{**named, **connect_args})
    try:
        connection.autocommit = True
        ear = Ear(connection)
        ear.ask(f"LISTEN {channel}")
        yield ear
    finally:
        connection.close()


class Ear:
    """What is heard on one connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._heard_at = time.monotonic()

    def hear(self, seconds: float) -> Iterator[str]:
        """What was sent within the time; then a server that has been silent for long is asked whether it is there."""
        for notice in self._connection.notifies(timeout=seconds):
            self._heard_at = time.monotonic()
            yield notice.payload
        if time.monotonic() - self._heard_at > SILENCE_MOST:
            self.ask("SELECT 1")

    def ask(self, statement: str) -> None:
        """Have the statement done, or the connection cut after ANSWER_MOST: no timeout of TCP's ends the wait for a
        process that stands still, since its kernel goes on answering."""
        cut = threading.Timer(ANSWER_MOST, self._cut)
        cut.daemon = True
        cut.start()
        try:
            self._connection.execute(statement.encode())
        finally:
            cut.cancel()
        self._heard_at = time.monotonic()

    def _cut(self) -> None:
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)
