# SPDX-License-Identifier: Apache-2.0
"""SQLite: the database file of one server, made once by that server's own migrations."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

# A numbered table as SQLAlchemy spells it.
_NUMBERED = re.compile(r"\bid INTEGER NOT NULL,")
_KEY = ", \n\tPRIMARY KEY (id)"
HARMLESS = ("SELECT", "PRAGMA", "BEGIN")


def take_write_lock_late(engines: Engine | type[Engine] = Engine) -> None:
    """Make one SQLAlchemy engine, or every one, begin a transaction at its first write, and wait for its turn there.

    oslo.db begins each with a plain BEGIN. When such a transaction has read, and another one writes before it writes
    itself, SQLite refuses it at once ("database is locked"), whatever the timeout. Reads before the first write see
    what is committed at their time, as in a server database at READ COMMITTED.
    """

    @event.listens_for(engines, "do_execute")
    def _skip_plain_begin(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        # True means that there is nothing left to execute.
        return statement == "BEGIN"

    @event.listens_for(engines, "before_cursor_execute")
    def _begin_at_first_write(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if not cursor.connection.in_transaction and not statement.lstrip().upper().startswith(HARMLESS):
            cursor.connection.execute("BEGIN IMMEDIATE")


def is_complete(file: Path) -> bool:
    """Whether the database was made to the end, not only begun by a process that was killed."""
    return _mark(file).exists()


def create_database(file: Path, sync: Callable[[], None]) -> None:
    """Make the schema in a new file, in place of one that was only begun.

    Write-ahead mode, so that readers and the one writer do not wait for each other.
    """
    for leftover in file.parent.glob(f"{file.name}*"):
        leftover.unlink()
    with _rising_ids():
        sync()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


@contextlib.contextmanager
def _rising_ids() -> Iterator[None]:
    """Let tables made meanwhile never give a deleted row's number to a new one, as server databases do.

    Heat relies on it: it deletes an attribute value by its number a second time, and on SQLite has then deleted the
    properties that got the number in between.
    """

    def never_again(
        _connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        if statement.lstrip().startswith("CREATE TABLE") and _NUMBERED.search(statement) and _KEY in statement:
            statement = _NUMBERED.sub("id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,", statement).replace(_KEY, "")
        return statement, parameters

    event.listen(Engine, "before_cursor_execute", never_again, retval=True)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", never_again)


def mark_complete(file: Path) -> None:
    """Remember that the database is ready for use."""
    _mark(file).touch()


def _mark(file: Path) -> Path:
    return file.with_name(f"{file.name}.complete")
