# SPDX-License-Identifier: Apache-2.0
"""SQLite: servers with many threads share one file; a database that was only begun is made anew."""

import sqlite3
from pathlib import Path

import pytest
from oslo_db.sqlalchemy import engines
from sqlalchemy import Column, Engine, Integer, MetaData, PrimaryKeyConstraint, Table, text
from sqlalchemy.exc import OperationalError

from devcloud.sqlite import create_database, is_complete, mark_complete, take_write_lock_late


def make_engine(file: Path) -> Engine:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE number (value INTEGER)")
    connection.close()
    engine: Engine = engines.create_engine(f"sqlite:///{file}?timeout=5")
    return engine


def read_while_another_writes_then_write(engine: Engine) -> int:
    with engine.begin() as reader:
        reader.execute(text("SELECT * FROM number")).all()
        with engine.begin() as writer:
            writer.execute(text("INSERT INTO number VALUES (1)"))
        reader.execute(text("INSERT INTO number VALUES (2)"))
    with engine.begin() as last:
        return len(last.execute(text("SELECT * FROM number")).all())


def test_a_transaction_that_has_read_can_still_write(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "late.sqlite")
    take_write_lock_late(engine)
    assert read_while_another_writes_then_write(engine) == 2


def test_without_it_sqlite_refuses_that_write(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match="locked"):
        read_while_another_writes_then_write(make_engine(tmp_path / "plain.sqlite"))


def test_a_rollback_takes_back_what_was_written(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "rollback.sqlite")
    take_write_lock_late(engine)
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO number VALUES (1)"))
        connection.rollback()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT * FROM number")).all() == []


def test_a_database_that_was_only_begun_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "server.sqlite"

    def sync() -> None:
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE made (value INTEGER)")
        connection.close()

    create_database(file, sync)
    assert not is_complete(file)
    create_database(file, sync)
    mark_complete(file)
    assert is_complete(file)


def test_a_number_is_never_given_to_a_second_row(tmp_path: Path) -> None:
    file = tmp_path / "numbers.sqlite"

    def sync() -> None:
        metadata = MetaData()
        Table("thing", metadata, Column("id", Integer, nullable=False), PrimaryKeyConstraint("id"))
        engine = engines.create_engine(f"sqlite:///{file}")
        metadata.create_all(engine)
        engine.dispose()

    create_database(file, sync)
    connection = sqlite3.connect(file)
    first = connection.execute("INSERT INTO thing DEFAULT VALUES").lastrowid
    connection.execute("DELETE FROM thing")
    second = connection.execute("INSERT INTO thing DEFAULT VALUES").lastrowid
    connection.close()
    assert (first, second) == (1, 2)
