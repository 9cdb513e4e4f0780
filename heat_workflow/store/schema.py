# SPDX-License-Identifier: Apache-2.0
"""Schema: bring a database to the revision this code needs, by alembic, in two phases.

Revisions form one chain and are named ``NNNN_pre`` and ``NNNN_post``: a release *expands* the schema before its code
runs (``pre``: what the release before can live with) and *contracts* it when no replica of the release before is left
(``post``). So a replica works on a database that is one ``pre`` ahead of it, and on none that is further.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.migration
import alembic.script
import sqlalchemy as sa

from heat_workflow import errors
from heat_workflow.store import sqlite
from heat_workflow.store.claims import server_dialect

MIGRATIONS = Path(__file__).parent / "migrations"
_NAME = re.compile(r"(\d{4})_(pre|post)")
# Two nodes that run `db sync` at once take turns. The lock is the session's: an index that is made while others write
# takes several transactions. It is tried again and again: PostgreSQL would have such an index wait for the statement of
# a node that waits for the lock.
_LOCKS = {
    "postgresql": "SELECT pg_try_advisory_lock(hashtext('heat_workflow.schema'))",
    "mysql": "SELECT get_lock('heat_workflow.schema', 0)",
    "mariadb": "SELECT get_lock('heat_workflow.schema', 0)",
}
_LOCK_WAIT = 600.0  # seconds that a node waits for the other
_LOCK_EVERY = 0.2
_REPEAT = "run heat-workflow-manage db sync"


def sync(url: str, phase: str | None = None, scripts: Path = MIGRATIONS) -> list[str]:
    """Upgrade the database at ``url`` and return the revisions that were run; repeated, none.

    ``phase`` is ``pre`` (while replicas of the release before run), ``post`` (when none is left) or None (both, with
    every replica stopped). Conflict where the steps of the phase cannot be taken now.
    """
    if sa.make_url(url).get_backend_name() == "sqlite":
        sqlite.keep_private(url)
    with _connected(url, {"connect_timeout": 10}) as connection, _turn(connection):  # a step may take its time
        steps = _steps(_current(connection), _chain(scripts), phase)
        for step in steps:
            if connection.dialect.name != "sqlite":
                connection.commit()  # each step has transactions of its own
            alembic.command.upgrade(_config(scripts, connection), step)
    return steps


@contextlib.contextmanager
def _turn(connection: sa.Connection) -> Iterator[None]:
    """No other node is in here: SQLite's transaction, on a server a lock of the session, which ends with it."""
    lock = _LOCKS.get(connection.dialect.name)
    if lock is None:
        with connection.begin():
            yield
        return
    until = time.monotonic() + _LOCK_WAIT
    while not connection.exec_driver_sql(lock).scalar():
        connection.commit()
        if time.monotonic() > until:
            raise errors.Unavailable("another node has been changing the schema for ten minutes; see what it does")
        time.sleep(_LOCK_EVERY)
    yield
    connection.commit()


def version(url: str) -> str | None:
    """The revision the database stands at, None for one without our tables."""
    with _connected(url) as connection:
        return _current(connection)


def newest(scripts: Path = MIGRATIONS) -> str:
    """The revision that this code brings a database to."""
    return _chain(scripts)[-1]


def check(url: str, scripts: Path = MIGRATIONS) -> None:
    """Raise Conflict unless this code can work on the database as it stands (F31, G21)."""
    current = version(url)
    chain = _chain(scripts)
    if current is None:
        raise errors.Conflict(f"the database has no schema yet, or its migration was interrupted: {_REPEAT}")
    if current not in chain:
        if not _one_ahead(current, chain):
            raise _foreign(current, chain)
        return
    needed = [name for name in chain if name.endswith("_pre")][-1]
    if chain.index(current) < chain.index(needed):
        raise errors.Conflict(f"the database stands at {current} and this release needs {needed}: {_REPEAT} --pre")


def _steps(current: str | None, chain: list[str], phase: str | None) -> list[str]:
    """The revisions to run, in order."""
    if current is not None and current not in chain:
        raise _foreign(current, chain)
    ahead = chain if current is None else chain[chain.index(current) + 1 :]
    while phase == "pre" and ahead and ahead[-1].endswith("_post"):
        ahead = ahead[:-1]  # what follows the last expansion is this release's own contraction: not its turn yet
    nobody_there = current is None and phase == "pre"  # an empty database has no replicas to mind
    wrong = next((name for name in ahead if phase is not None and not name.endswith(f"_{phase}")), None)
    if wrong is not None and not nobody_there:
        raise errors.Conflict(
            f"{wrong} comes first: run db sync --{wrong.partition('_')[2]} of its release, "
            "or stop every replica and run db sync"
        )
    return ahead


def _one_ahead(current: str, chain: list[str]) -> bool:
    """Whether an unknown revision is the expansion of the next release."""
    there, here = _NAME.fullmatch(current), _NAME.fullmatch(chain[-1])
    if there is None or here is None:
        return False
    return there[2] == "pre" and int(there[1]) == int(here[1]) + 1


def _foreign(current: str, chain: list[str]) -> errors.Conflict:
    if _NAME.fullmatch(current) is None:
        return errors.Conflict(f"the database holds the schema of another program (revision {current})")
    return errors.Conflict(
        f"the database stands at {current}, later than {chain[-1]}, the last this release knows: upgrade this host"
    )


def _chain(scripts: Path) -> list[str]:
    """The names of all revisions, the oldest first."""
    directory = alembic.script.ScriptDirectory(str(scripts))
    return [script.revision for script in directory.walk_revisions()][::-1]


def _current(connection: sa.Connection) -> str | None:
    heads = alembic.migration.MigrationContext.configure(connection).get_current_heads()
    return " ".join(heads) or None


def _config(scripts: Path, connection: sa.Connection) -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    return config


@contextlib.contextmanager
def _connected(url: str, connect: Mapping[str, Any] | None = None) -> Iterator[sa.Connection]:
    """A connection, with the patience of the store's own or as ``connect`` says; Unavailable if none can be had."""
    engine = _engine(url, connect)
    try:
        with engine.connect() as connection:
            yield connection.execution_options(writes=True)
    except sa.exc.DBAPIError as exc:
        reason = str(exc.orig).strip().splitlines()[0]
        raise errors.Unavailable(f"the database cannot be used: {reason}") from exc
    finally:
        engine.dispose()


def _engine(url: str, connect: Mapping[str, Any] | None) -> sa.Engine:
    backend = sa.make_url(url).get_backend_name()
    if backend != "sqlite":
        connect_args = dict(server_dialect(backend).connect if connect is None else connect)
        return sa.create_engine(url, hide_parameters=True, connect_args=connect_args)
    path = sa.make_url(url).database
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return sqlite.engine_for(url) if connect is None else sqlite.engine_for(url, _LOCK_WAIT)
