# SPDX-License-Identifier: Apache-2.0
"""Notices: wake-ups between replicas. PostgreSQL tells us; MariaDB is asked, by one cheap poll per replica.

They are told after the commit, by a thread of their own that takes what has come up meanwhile. As a part of each
transaction they made all transactions of a PostgreSQL take turns: a commit that notifies holds a lock of the whole
server until it is on the disk. A process that is killed in between loses hints, which cost time and nothing else (G2).
"""

from __future__ import annotations

import collections
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import psycopg
import sqlalchemy as sa

from heat_workflow.failpoints import faultpoint
from heat_workflow.loops import Loop
from heat_workflow.store import tables
from heat_workflow.store.claims import PostgreSql
from heat_workflow.store.group.lane import DATABASE_ERRORS
from heat_workflow.store.listening import listening

Wake = Callable[[Mapping[str, int]], None]
_CHANNEL = "heat_workflow"
_PAYLOAD_MOST = 7000  # bytes; PostgreSQL takes 8000
_POLL_EVERY = 0.1  # seconds between looks at MariaDB's news, so that a wake-up is p99 under 1 s
_OVERLAP = 200  # rows looked at again, for transactions that commit out of the order of their ids
_KEEP = 60.0  # seconds a row of news lives
_STOP_WITHIN = 0.2  # seconds
_CLOSE_MOST = 1.0  # seconds
_RETRY = 1.0  # seconds before a lost connection is tried again


class Notices(Protocol):
    """How one replica's transactions become another's wake-ups."""

    @property
    def health(self) -> Loop:
        """How the listening is."""

    def send(self, connection: sa.Connection, keys: Mapping[str, int], now: float) -> None:
        """Tell the keys, each with how much there is to wake for, in one transaction."""

    def listen(self, wake: Wake) -> None:
        """Call ``wake`` with the keys of other replicas' transactions until ``stop``."""

    def stop(self) -> None: ...

    @property
    def connected(self) -> bool | None:
        """Whether a connection of its own listens now; None where there is none to listen with."""


def _tell(me: str, payload: str, wake: Wake) -> None:
    """Wake by what another replica sent; a replica's own waiters were woken at its commit already."""
    sender, *lines = payload.split("\n")
    if sender != me:
        wake({key: int(count) for count, _, key in (line.partition(" ") for line in lines)})


def _lines(keys: Mapping[str, int]) -> list[str]:
    """Count and key, a line each, always in the same order."""
    return [f"{count} {key}" for key, count in sorted(keys.items())]


class Teller:
    """Tells other replicas what this one's transactions have woken for."""

    def __init__(self, engine: sa.Engine, notices: Notices, health: Loop) -> None:
        self._engine = engine
        self._notices = notices
        self._health = health
        self._told: queue.SimpleQueue[Mapping[str, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._tell_forever, name="store-tell", daemon=True)
        self._thread.start()

    def tell(self, keys: Mapping[str, int]) -> None:
        """From any thread; returns at once."""
        self._told.put(keys)

    def close(self) -> None:
        """Tell what is left."""
        self._told.put(None)
        self._thread.join(_CLOSE_MOST)

    def _tell_forever(self) -> None:
        while (first := self._told.get()) is not None:
            keys = collections.Counter(first)
            last = False
            while not self._told.empty():
                more = self._told.get()
                last = last or more is None
                keys.update(more or {})
            with self._health.round():  # what is lost costs time alone: the other replicas' polls look for themselves
                self._send(keys)
            if last:
                return

    def _send(self, keys: Mapping[str, int]) -> None:
        faultpoint("news.told")
        with self._engine.begin() as connection:
            self._notices.send(connection, keys, time.time())


def notices_for(engine: sa.Engine) -> Notices:
    return PostgreSqlNotices(engine) if engine.dialect.name == "postgresql" else PolledNotices(engine)


class PostgreSqlNotices:
    """LISTEN and NOTIFY; a notification is delivered only after its transaction committed."""

    def __init__(self, engine: sa.Engine) -> None:
        self._me = secrets.token_hex(4)
        self._engine = engine
        self.connected = False
        self.health = Loop("news-in", expected=(psycopg.Error,))
        self._stopped = threading.Event()

    def send(self, connection: sa.Connection, keys: Mapping[str, int], now: float) -> None:
        payload = self._me
        for line in _lines(keys):
            if len(payload.encode()) + len(line.encode()) >= _PAYLOAD_MOST:
                self._notify(connection, payload)
                payload = self._me
            payload = f"{payload}\n{line}"
        self._notify(connection, payload)

    def _notify(self, connection: sa.Connection, payload: str) -> None:
        connection.exec_driver_sql(
            "SELECT pg_notify(%(channel)s, %(payload)s)", {"channel": _CHANNEL, "payload": payload}
        )

    def listen(self, wake: Wake) -> None:
        while not self._stopped.is_set():
            try:
                with listening(self._engine, PostgreSql.connect, _CHANNEL) as ear:
                    self.connected = True
                    while not self._stopped.is_set():
                        for payload in ear.hear(_STOP_WITHIN):
                            _tell(self._me, payload, wake)
                        faultpoint("news.heard")
                        self.health.finish()
                self.connected = False
            except Exception as exc:  # polls look for themselves meanwhile
                self.connected = False
                self.health.fail(exc)
                self._stopped.wait(_RETRY)

    def stop(self) -> None:
        self._stopped.set()


class PolledNotices:
    """A table of news, read by every replica."""

    connected = None  # it is read through the engine's own connections

    def __init__(self, engine: sa.Engine) -> None:
        self._me = secrets.token_hex(4)
        self._engine = engine
        self.health = Loop("news-in", expected=DATABASE_ERRORS)
        self._stopped = threading.Event()

    def send(self, connection: sa.Connection, keys: Mapping[str, int], now: float) -> None:
        connection.execute(sa.insert(tables.news).values(at=now, keys="\n".join([self._me, *_lines(keys)])))

    def listen(self, wake: Wake) -> None:
        seen: dict[int, None] = {}
        last = -1
        cleaned = time.monotonic()
        while not self._stopped.wait(_POLL_EVERY):
            try:
                with self._engine.connect() as connection:
                    last = self._look(connection, seen, last, wake)
                faultpoint("news.heard")
                if time.monotonic() - cleaned > _KEEP:
                    self._clean()
                    cleaned = time.monotonic()
                self.health.finish()
            except Exception as exc:  # polls look for themselves meanwhile
                self.health.fail(exc)
                self._stopped.wait(_RETRY)

    def _look(self, connection: sa.Connection, seen: dict[int, None], last: int, wake: Wake) -> int:
        c = tables.news.c
        if last < 0:
            return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(c.id), 0))).scalar_one())
        query = sa.select(c.id, c["keys"]).where(c.id > last - _OVERLAP).order_by(c.id)
        for id_, keys in connection.execute(query).fetchall():
            if id_ > last - _OVERLAP and id_ not in seen:
                seen[id_] = None
                _tell(self._me, keys, wake)
            last = max(last, id_)
        for id_ in [id_ for id_ in seen if id_ <= last - _OVERLAP]:
            del seen[id_]
        return last

    def _clean(self) -> None:
        newest = sa.select(sa.func.max(tables.news.c.at)).scalar_subquery()
        with self._engine.begin() as connection:
            limit = connection.execute(sa.select(newest)).scalar_one()
            if limit is not None:
                connection.execute(sa.delete(tables.news).where(tables.news.c.at < limit - _KEEP))

    def stop(self) -> None:
        self._stopped.set()
