# SPDX-License-Identifier: Apache-2.0
"""Opening: the store for a database URL."""

from __future__ import annotations

import sqlalchemy as sa

from heat_workflow import errors
from heat_workflow.store import Store, schema
from heat_workflow.store.keyring import KeyRing
from heat_workflow.store.sqlite import SqliteStore
from heat_workflow.store.sqlserver import ServerStore


def open_store(url: str, key_file: str | None = None) -> Store:
    """The store at ``url``. An SQLite file is brought to the newest schema; a server is the operator's to upgrade:
    Conflict if its schema is not for this release, Unavailable if it does not answer.

    ``key_file`` is the key ring for hidden values; without one, tasks with hidden values are refused.
    """
    keys = KeyRing.load(key_file)
    backend = sa.make_url(url).get_backend_name()
    if backend == "sqlite":
        schema.sync(url)
        return SqliteStore(url, keys)
    if backend not in ("postgresql", "mysql", "mariadb"):
        raise errors.Invalid(f"[database] connection: {backend} is not supported; use sqlite, postgresql or mysql")
    schema.check(url)
    return ServerStore(url, keys)
