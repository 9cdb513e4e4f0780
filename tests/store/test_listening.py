# SPDX-License-Identifier: Apache-2.0
"""F51: the listener for wake-ups reaches PostgreSQL as the engine does, whatever the URL is, or it says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from heat_workflow.store import Store, schema
from heat_workflow.store.sqlserver import ServerStore
from tests.harness.databases import PostgreSql
from tests.harness.servers import free_port
from tests.harness.stores import Database, Ears

LISTENERS = (
    "SELECT pid, application_name FROM pg_stat_activity WHERE query = 'LISTEN heat_workflow' OR query = 'SELECT 1'"
)


@pytest.fixture(scope="module")
def url(postgresql: PostgreSql) -> str:
    made = postgresql.new_database("listening")
    schema.sync(made)
    return made


@pytest.fixture
def plain(url: str) -> sa.URL:
    return sa.make_url(url)


def hosts(url: sa.URL, form: str) -> str:
    """The same database in one of the ways in which SQLAlchemy and libpq take several hosts."""
    bare = url.set(host=None, port=None)
    host, port, dead = url.host, url.port, free_port()
    queries: dict[str, dict[str, list[str] | str]] = {
        "host and port each": {"host": [f"{host}:{port}", f"{host}:{port}"]},
        "lists": {"host": f"{host},{host}", "port": f"{port},{port}"},
        "the first is dead": {"host": [f"{host}:{dead}", f"{host}:{port}"], "target_session_attrs": "read-write"},
        "options": {"host": f"{host}:{port}", "application_name": "told-in-url", "sslmode": "prefer"},
    }
    named = url if form == "one" else bare.update_query_dict(queries[form])
    return named.render_as_string(hide_password=False)


@contextlib.asynccontextmanager
async def replicas(url: str, key_file: str) -> AsyncIterator[tuple[Store, ServerStore, Ears]]:
    database = Database(url, key_file)
    async with database.replica() as (one, _), database.replica() as (other, ears):
        assert isinstance(one, ServerStore)
        assert isinstance(other, ServerStore)
        await until_listening(one)
        await until_listening(other)
        yield one, other, ears


async def until_listening(store: ServerStore, wanted: bool = True) -> None:
    async with asyncio.timeout(20):
        while store.listening is not wanted:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("form", ["one", "host and port each", "lists", "the first is dead", "options"])
async def test_f51_a_replica_hears_of_the_others_whatever_way_the_url_names_its_hosts(
    plain: sa.URL, key_file: str, form: str
) -> None:
    async with replicas(hosts(plain, form), key_file) as (one, other, ears):
        await one.write(lambda tx: tx.wake("told"))
        await ears.hear("told")
        assert other.listening is True


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        sa.make_url(url).set(drivername="postgresql").render_as_string(False), autocommit=True
    ) as made:
        yield made


async def test_f51_the_listener_is_told_what_the_engine_is_told(
    plain: sa.URL, key_file: str, admin: psycopg.Connection
) -> None:
    async with replicas(hosts(plain, "options"), key_file) as (one, other, _):
        await asyncio.gather(*(store.read(lambda tx: tx.now) for store in (one, other)))
        query = "SELECT query FROM pg_stat_activity WHERE application_name = 'told-in-url'"
        said = [text for (text,) in admin.execute(query).fetchall()]
        assert said.count("LISTEN heat_workflow") == 2
        assert len(said) > 2


async def test_f51_a_listener_whose_server_stands_still_notices_and_connects_anew(
    plain: sa.URL, key_file: str, admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heat_workflow.store.listening.SILENCE_MOST", 0.3)
    monkeypatch.setattr("heat_workflow.store.listening.ANSWER_MOST", 0.5)
    named = plain.update_query_dict({"application_name": "stands-still"})
    async with replicas(named.render_as_string(hide_password=False), key_file) as (one, other, ears):
        query = (
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'stands-still' AND query ~ '^(LISTEN|SELECT 1$)'"
        )
        frozen = [pid for (pid,) in admin.execute(query).fetchall()]
        assert len(frozen) == 2
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            await until_listening(other, False)
            await until_listening(other)
            await one.write(lambda tx: tx.wake("told again"))
            await ears.hear("told again")
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)


async def test_f51_a_listener_whose_server_is_gone_says_so_and_is_back_with_it(
    postgresql: PostgreSql, plain: sa.URL, key_file: str
) -> None:
    async with replicas(plain.render_as_string(hide_password=False), key_file) as (one, other, ears):
        await asyncio.to_thread(postgresql.kill)
        await until_listening(other, False)
        await asyncio.to_thread(postgresql.start)
        await until_listening(other)
        await one.write(lambda tx: tx.wake("told after it"))
        await ears.hear("told after it")


async def test_where_there_is_nothing_to_listen_with_nothing_is_said(empty: Database) -> None:
    async with empty.replica() as (store, _):
        assert (store.listening is None) == (not empty.url.startswith("postgresql"))
