# SPDX-License-Identifier: Apache-2.0
"""Indexes for what is asked by key, and of the few rows that a query is about.

Made beside the old ones, without stopping who writes: CONCURRENTLY, and INPLACE without a lock. Repeated after an
interruption it goes on with those that are missing; what PostgreSQL left half made is made anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_pre"
down_revision = "0001_pre"

INDEXES = {
    "workflow_by_name": ("workflow", ["project_id", "name", "created_at", "id"], None),
    "workflow_ended": ("workflow", ["finished_at"], "finished_at IS NOT NULL"),
    "task_by_definition": ("task", ["project_id", "definition_id"], None),
    "task_by_name": ("task", ["workflow_id", "name"], "holds_name = 1"),
    "task_attached": ("task", ["workflow_id", "detached"], "detached = 0"),
    "task_claimable": ("task", ["project_id", "route", "state", "rank", "ready_at"], "state = 'ready'"),
    "task_by_due": ("task", ["due_at"], "due_at IS NOT NULL"),
    "task_fanout": ("task", ["workflow_id", "fanout", "batch"], "fanout IS NOT NULL"),
    "task_undo": ("task", ["undo_of"], "undo_of IS NOT NULL"),
    "task_held": ("task", ["agent_id", "state"], "state IN ('cancelling', 'leased', 'stalled')"),
    "agent_revoked": ("agent", ["revoked_at"], "revoked_at IS NOT NULL"),
}
HALF_MADE = sa.text(
    "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relname = :name AND NOT indisvalid"
)


def upgrade() -> None:
    make = {"postgresql": _make_postgresql, "mysql": _make_mariadb, "mariadb": _make_mariadb}
    for name, (table, columns, where) in INDEXES.items():
        make.get(op.get_bind().dialect.name, _make_sqlite)(name, table, columns, where)


def _make_sqlite(name: str, table: str, columns: list[str], where: str | None) -> None:
    rows = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=rows, if_not_exists=True)


def _make_postgresql(name: str, table: str, columns: list[str], where: str | None) -> None:
    rows = None if where is None else sa.text(where)
    with op.get_context().autocommit_block():
        if op.get_bind().execute(HALF_MADE, {"name": name}).scalar_one():
            op.drop_index(name, table, postgresql_concurrently=True)
        op.create_index(
            name, table, columns, postgresql_where=rows, postgresql_concurrently=True, if_not_exists=True
        )


def _make_mariadb(name: str, table: str, columns: list[str], _where: str | None) -> None:
    listed = ", ".join(f"`{column}`" for column in columns)
    op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({listed}) ALGORITHM=INPLACE LOCK=NONE")
