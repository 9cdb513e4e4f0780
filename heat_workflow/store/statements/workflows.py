# SPDX-License-Identifier: Apache-2.0
"""Statements on workflows."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as p

from heat_workflow.store import tables as t
from heat_workflow.store.statements.parts import assigned

FIND_WORKFLOW = sa.select(t.workflow).where(t.workflow.c.id == p("id"), t.workflow.c.project_id == p("project_id"))
LOCK_WORKFLOW = FIND_WORKFLOW.with_for_update()
LOCK_FREE_WORKFLOW = FIND_WORKFLOW.with_for_update(skip_locked=True)
SAVE_WORKFLOW = (
    sa.update(t.workflow)
    .where(t.workflow.c.id == p("key"))
    .values(assigned(t.workflow, "name", "tags", "state", "on_failure", "finished_at"))
)
COUNT_TASKS = (
    sa.select(t.task.c.state, sa.func.count()).where(t.task.c.workflow_id == p("workflow_id")).group_by(t.task.c.state)
)
LIST_ENDED = (
    sa.select(t.workflow)
    .where(t.workflow.c.finished_at < p("before"))
    .order_by(t.workflow.c.finished_at)
    .limit(p("most", type_=sa.Integer))
)
USAGE = sa.select(sa.func.count(), sa.func.sum(t.workflow.c.task_count), sa.func.sum(t.workflow.c.byte_count)).where(
    t.workflow.c.project_id == p("project_id")
)
