# SPDX-License-Identifier: Apache-2.0
"""Migrations make what tables.py says, keep what is there, bear interruption and know their order (F31, G21)."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import pytest
import sqlalchemy as sa

from heat_workflow import errors, model
from heat_workflow.store import schema, tables
from tests.harness import facts
from tests.harness.databases import PostgreSql
from tests.harness.stores import Database, insert, task_of

CHAIN = ["0001_pre", "0002_pre", "0002_post"]
FIRST, LAST = CHAIN[0], CHAIN[-1]
_numbers = itertools.count()
_WAITING_INDEX = (
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%%' AND wait_event_type = 'Lock'"
)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of a new database without tables, of one kind."""

    def url() -> str:
        name = f"schema_{next(_numbers)}"
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path}/{name}.sqlite"
        return str(request.getfixturevalue(request.param).new_database(name))

    return url


def structure(url: str) -> list[str]:
    """All that the database says about its tables, in its own words."""
    engine = sa.create_engine(url)
    names = sorted(tables.metadata.tables)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").scalars()
            said = [text for text in found if "alembic" not in text and "sqlite_sequence" not in text]
            said = [text.replace("IF NOT EXISTS ", "") for text in said]
        elif engine.dialect.name == "postgresql":
            columns = "table_name, column_name, data_type, character_maximum_length, is_nullable, column_default"
            query = f"SELECT {columns} FROM information_schema.columns WHERE table_schema = 'public'"
            said = [str(row) for row in connection.exec_driver_sql(query) if row[0] in names]
            query = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            said += [row[1] for row in connection.exec_driver_sql(query) if row[0] in names]
        else:
            shown = [connection.exec_driver_sql(f"SHOW CREATE TABLE `{name}`").first() for name in names]
            said = [line.rstrip(",") for row in shown if row is not None for line in row[1].splitlines()]
    engine.dispose()
    return sorted(said)


def test_the_migrations_make_what_the_tables_say(fresh: Callable[[], str]) -> None:
    migrated, declared = fresh(), fresh()
    assert schema.sync(migrated) == CHAIN
    assert schema.version(migrated) == schema.newest() == LAST
    engine = sa.create_engine(declared)
    tables.metadata.create_all(engine)
    assert structure(migrated) == structure(declared)
    engine.dispose()
    engine = sa.create_engine(migrated)
    with engine.connect() as connection:
        context = alembic.migration.MigrationContext.configure(connection, opts={"compare_type": True})
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_the_index_of_unfinished_tasks_knows_the_unfinished_states() -> None:
    states = ", ".join(f"'{state}'" for state in sorted(state.value for state in model.UNFINISHED))
    wanted = f"state IN ({states})"
    assert wanted == tables.LIVE


async def test_a_filled_database_keeps_its_rows_when_it_is_synced_again(
    fresh: Callable[[], str], key_file: str
) -> None:
    database = Database(fresh(), key_file)
    schema.sync(database.url)
    workflow = facts.workflow()
    task = facts.task(workflow)
    async with database.replica() as (store, _):
        await insert(store, task, workflows=[workflow])
    assert schema.sync(database.url) == schema.sync(database.url, "pre") == schema.sync(database.url, "post") == []
    async with database.replica() as (store, _):
        assert await task_of(store, task.id) == task


def test_two_nodes_may_sync_at_once(fresh: Callable[[], str]) -> None:
    url = fresh()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: schema.sync(url), range(4)))
    assert sorted(done) == [[], [], [], CHAIN]


def test_a_sync_waits_for_a_node_that_still_makes_the_file(tmp_path: Path) -> None:
    """SQLite refuses at once, without its usual patience, to change the journal of a file that another writes to."""
    url = f"sqlite:///{tmp_path}/store.sqlite"
    other = sqlite3.connect(f"{tmp_path}/store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        syncing = threads.submit(schema.sync, url)
        try:
            with pytest.raises(TimeoutError):
                syncing.result(0.5)
        finally:
            other.close()
        assert syncing.result(60) == CHAIN


def test_f31_an_interrupted_migration_is_refused_and_goes_on_when_repeated(fresh: Callable[[], str]) -> None:
    """MariaDB keeps the first half of it; the other two forget it."""
    url = fresh()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        tables.workflow.create(connection)
        tables.task.create(connection)
        connection.exec_driver_sql("DROP INDEX task_by_due" + (" ON task" if engine.dialect.name == "mysql" else ""))
    with pytest.raises(errors.Conflict, match="interrupted: run heat-workflow-manage db sync"):
        schema.check(url)
    assert schema.sync(url) == CHAIN
    schema.check(url)
    whole = fresh()
    schema.sync(whole)
    assert structure(url) == structure(whole)
    engine.dispose()


REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = "{before}"


def upgrade() -> None:
    {step}
"""
STEPS = {
    "0003_pre": 'op.add_column("workflow", sa.Column("colour", sa.String(8)), **MISSING)',
    "0003_post": 'op.create_index("task_due_again", "task", ["due_at"], if_not_exists=True)',
    "0004_pre": 'op.create_table("more", sa.Column("id", sa.Integer, primary_key=True), if_not_exists=True)',
}


def release(directory: Path, last: str) -> Path:
    """The migrations as a later release would bring them, up to ``last``."""
    scripts = directory / last
    shutil.copytree(schema.MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    before = LAST
    for name, step in STEPS.items():
        # Only MariaDB, which may meet half of itself, knows ADD COLUMN IF NOT EXISTS.
        step = step.replace("**MISSING", 'if_not_exists=True if op.get_bind().dialect.name == "mysql" else None')
        text = REVISION.format(name=name, before=before, step=step)
        (scripts / "versions" / f"{name}.py").write_text(text)
        before = name
        if name == last:
            break
    return scripts


def the_first_release(directory: Path) -> Path:
    """The migrations as the first release has them."""
    scripts = directory / "first"
    if not scripts.exists():
        shutil.copytree(schema.MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__", "0002_*"))
    return scripts


def test_g21_an_upgrade_in_two_phases_keeps_both_releases_working(fresh: Callable[[], str], tmp_path: Path) -> None:
    url = fresh()
    new = release(tmp_path, "0003_post")
    assert schema.sync(url) == CHAIN
    with pytest.raises(errors.Conflict, match="needs 0003_pre: run heat-workflow-manage db sync --pre"):
        schema.check(url, new)
    with pytest.raises(errors.Conflict, match="0003_pre comes first: run db sync --pre"):
        schema.sync(url, "post", new)
    assert schema.sync(url, "pre", new) == ["0003_pre"]
    schema.check(url)
    schema.check(url, new)
    assert schema.sync(url, "post", new) == ["0003_post"]
    schema.check(url, new)
    with pytest.raises(errors.Conflict, match="stands at 0003_post, later than 0002_post"):
        schema.check(url)
    with pytest.raises(errors.Conflict, match="upgrade this host"):
        schema.sync(url)


def test_a_release_that_was_skipped_needs_its_own_phases_or_a_stop(fresh: Callable[[], str], tmp_path: Path) -> None:
    url = fresh()
    newer = release(tmp_path, "0004_pre")
    schema.sync(url)
    with pytest.raises(errors.Conflict, match="0003_post comes first"):
        schema.sync(url, "pre", newer)
    assert schema.version(url) == LAST
    assert schema.sync(url, scripts=newer) == list(STEPS)
    with pytest.raises(errors.Conflict, match="later than 0002_post"):
        schema.check(url)


def test_an_empty_database_needs_no_phases(fresh: Callable[[], str], tmp_path: Path) -> None:
    url = fresh()
    scripts = release(tmp_path, "0003_post")
    with pytest.raises(errors.Conflict, match="no schema yet"):
        schema.check(url, scripts)
    assert schema.sync(url, "pre", scripts) == [*CHAIN, "0003_pre"]
    assert schema.sync(url, "post", scripts) == ["0003_post"]


def test_rows_outlive_an_upgrade_from_the_first_revision(fresh: Callable[[], str], tmp_path: Path) -> None:
    url = fresh()
    schema.sync(url, scripts=the_first_release(tmp_path))
    assert schema.version(url) == FIRST
    engine = sa.create_engine(url)
    filled = {
        table.name: {column.name: "1" if isinstance(column.type, sa.String) else 1 for column in table.columns}
        for table in tables.metadata.sorted_tables
    }
    with engine.begin() as connection:
        for name, row in filled.items():
            connection.execute(sa.insert(tables.metadata.tables[name]), row)
    assert schema.sync(url, "pre") == ["0002_pre"]
    schema.check(url, the_first_release(tmp_path))
    schema.check(url)
    assert schema.sync(url, scripts=release(tmp_path, "0004_pre")) == ["0002_post", *STEPS]
    with engine.begin() as connection:
        for name, row in filled.items():
            found = connection.execute(sa.select(tables.metadata.tables[name])).mappings().one()
            assert dict(found) == row, name
    engine.dispose()


def test_f31_indexes_that_were_half_made_are_made_anew(fresh: Callable[[], str], tmp_path: Path) -> None:
    """An interrupted CREATE INDEX CONCURRENTLY leaves behind what no query uses and what is in its own way."""
    url, whole = fresh(), fresh()
    schema.sync(whole)
    schema.sync(url, scripts=the_first_release(tmp_path))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE INDEX task_by_definition ON task (project_id, definition_id)")
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("CREATE INDEX task_by_due ON task (seq)")
            connection.exec_driver_sql(
                "UPDATE pg_index SET indisvalid = false FROM pg_class WHERE oid = indexrelid"
                " AND relname = 'task_by_due'"
            )
    engine.dispose()
    assert schema.sync(url) == CHAIN[1:]
    assert structure(url) == structure(whole)


def test_q15_indexes_are_made_while_others_write(postgresql: PostgreSql, tmp_path: Path) -> None:
    """The index waits for who is writing, and nobody waits for the index."""
    url = postgresql.new_database(f"schema_{next(_numbers)}")
    schema.sync(url, scripts=the_first_release(tmp_path))
    engine = sa.create_engine(url)
    row = {column.name: "1" if isinstance(column.type, sa.String) else 1 for column in tables.task.columns}
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with engine.connect() as writer:
            writer.execute(sa.insert(tables.task), row)
            syncing = threads.submit(schema.sync, url, "pre")
            with engine.connect() as looking:
                while not looking.exec_driver_sql(_WAITING_INDEX).scalar():
                    looking.commit()
            with engine.begin() as other:
                other.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
                other.execute(sa.insert(tables.task), {**row, "id": "2"})
            assert not syncing.done()
            writer.commit()
        assert syncing.result(60) == ["0002_pre"]
    engine.dispose()


def test_the_database_of_another_program_is_left_alone(fresh: Callable[[], str]) -> None:
    url = fresh()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('1a2b3c4d5e6f')")
    for refused in (schema.check, schema.sync):
        with pytest.raises(errors.Conflict, match="another program"):
            refused(url)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    for url in ("postgresql+psycopg://u:secret@127.0.0.1:1/x", "mysql+pymysql://u:secret@127.0.0.1:1/x"):
        with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1") as caught:
            schema.check(url)
        assert "secret" not in str(caught.value)


def test_s76_the_file_of_sqlite_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    before = os.umask(0o022)
    try:
        schema.sync(f"sqlite:///{path}")
        modes = [path.stat().st_mode & 0o777]
        path.chmod(0o644)  # as releases before left it
        schema.sync(f"sqlite:///{path}")
        modes.append(path.stat().st_mode & 0o777)
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE more (n INTEGER)")
            modes += [found.stat().st_mode & 0o777 for found in tmp_path.iterdir()]
        connection.close()
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
