# SPDX-License-Identifier: Apache-2.0
"""Schema: bring a database to the revision this code needs, by alembic."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import alembic.migration
import alembic.script
import sqlalchemy as sa

from heat_workflow.store import sqlite

MIGRATIONS = Path(__file__).parent / "migrations"


def _config(connection: sa.Connection) -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _engine(url: str) -> sa.Engine:
    if sa.make_url(url).get_backend_name() == "sqlite":
        path = sa.make_url(url).database
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return sqlite.engine_for(url)
    return sa.create_engine(url, hide_parameters=True)


def sync(url: str, revision: str = "head") -> None:
    """Upgrade the database at ``url``; repeated, it does nothing."""
    engine = _engine(url)
    with engine.begin() as connection:
        alembic.command.upgrade(_config(connection), revision)
    engine.dispose()


def version(url: str) -> str | None:
    """The revision the database stands at, None for an empty one."""
    engine = _engine(url)
    with engine.connect() as connection:
        current = alembic.migration.MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    return current
