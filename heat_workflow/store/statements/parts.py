# SPDX-License-Identifier: Apache-2.0
"""Parts: what several statements are made of."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as p

from heat_workflow import model
from heat_workflow.store import tables

UNFINISHED = [state.value for state in model.UNFINISHED]
# Said as the partial indexes say it, or SQLite would not use those.
IS_LIVE = sa.text(tables.LIVE)
IS_HELD = sa.text(tables.HELD)
IS_READY = sa.text(tables.READY)


def literals(column: sa.Column[Any], values: list[str]) -> sa.ColumnElement[bool]:
    """``column IN (...)`` with the words written out: fixed words of ours, so the statement stays the same text."""
    return sa.or_(*(column == sa.literal_column(f"'{value}'") for value in sorted(values)))


def assigned(table: sa.Table, *names: str) -> dict[str, Any]:
    return {name: p(f"new_{name}") for name in names}
