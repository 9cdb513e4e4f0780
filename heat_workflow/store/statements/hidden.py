# SPDX-License-Identifier: Apache-2.0
"""Statements on hidden values."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as p

from heat_workflow.store import tables as t
from heat_workflow.store.statements.parts import assigned

READ_SECRETS = sa.select(t.secret.c.name, t.secret.c.sealed).where(
    t.secret.c.task_id == p("task_id"), t.secret.c.kind == p("kind")
)
DROP_SECRETS = sa.delete(t.secret).where(t.secret.c.task_id == p("task_id"), t.secret.c.kind == p("kind"))
SAVE_SECRET = (
    sa.update(t.secret)
    .where(t.secret.c.task_id == p("task"), t.secret.c.kind == p("sort"), t.secret.c.name == p("key"))
    .values(assigned(t.secret, "sealed"))
)
INSERT_SECRET = sa.insert(t.secret)
