# SPDX-License-Identifier: Apache-2.0
"""The indexes go in whose place 0002_pre made others."""

from __future__ import annotations

from alembic import op

revision = "0002_post"
down_revision = "0002_pre"

REPLACED = ("task_ready", "task_due", "task_by_fanout", "task_by_undo", "task_by_agent")


def upgrade() -> None:
    for name in REPLACED:
        if op.get_bind().dialect.name == "postgresql":
            with op.get_context().autocommit_block():
                op.drop_index(name, "task", postgresql_concurrently=True, if_exists=True)
        else:
            op.drop_index(name, "task", if_exists=True)
