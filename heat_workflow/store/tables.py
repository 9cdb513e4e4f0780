# SPDX-License-Identifier: Apache-2.0
"""Tables: the rows that are the only truth.

Columns are plain (text, integer, float): JSON is text we write and read ourselves, so that every database gives the
same bytes back. Times are seconds since the epoch by the database's clock.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

metadata = sa.MetaData()
# Names compare byte for byte everywhere; MariaDB's default takes `A` and `a` for one, its plain `_bin` `a` and `a `.
_MARIADB: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}

_UUID = sa.String(36)
_WORD = sa.String(32)
_HASH = sa.String(64)
_NAME = sa.String(512)  # `<task>/<server>`: two names of 255 and a slash
_TIME: sa.Double[float] = sa.Double()
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_ROUTE = sa.String(400)

# Indexes of the few rows that a query is about stay small beside millions of others, and a row that does not belong
# costs no write. MariaDB has no such indexes: there the same names are of all rows.
LIVE = "state IN ('cancelling', 'leased', 'ready', 'stalled', 'waiting')"  # the unfinished states
HELD = "state IN ('cancelling', 'leased', 'stalled')"
READY = "state = 'ready'"


def _partial(name: str, *columns: str, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


workflow = sa.Table(
    "workflow",
    metadata,
    sa.Column("id", _UUID, primary_key=True),
    sa.Column("project_id", _HASH, nullable=False),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("tags", _TEXT, nullable=False),
    sa.Column("state", _WORD, nullable=False),
    sa.Column("sealed", sa.Integer, nullable=False),
    sa.Column("on_failure", _WORD, nullable=False),
    sa.Column("fingerprint", _HASH, nullable=False),
    sa.Column("event_seq", sa.BigInteger, nullable=False),
    sa.Column("task_count", sa.BigInteger, nullable=False),
    sa.Column("byte_count", sa.BigInteger, nullable=False),  # of what its tasks brought and left
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("finished_at", _TIME),
    sa.Index("workflow_by_project", "project_id", "created_at", "id"),
    sa.Index("workflow_by_name", "project_id", "name", "created_at", "id"),
    _partial("workflow_ended", "finished_at", where="finished_at IS NOT NULL"),
    **_MARIADB,
)

definition = sa.Table(
    "definition",
    metadata,
    sa.Column("project_id", _HASH, primary_key=True),
    sa.Column("id", _HASH, primary_key=True),
    sa.Column("body", _TEXT, nullable=False),
    **_MARIADB,
)

task = sa.Table(
    "task",
    metadata,
    sa.Column("id", _UUID, primary_key=True),
    sa.Column("project_id", _HASH, nullable=False),
    sa.Column("workflow_id", _UUID, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("fanout", _NAME),
    sa.Column("holds_name", sa.Integer, nullable=False),
    sa.Column("definition_id", _HASH, nullable=False),
    sa.Column("spec", _TEXT, nullable=False),
    sa.Column("capabilities", _TEXT, nullable=False),
    sa.Column("route", _ROUTE, nullable=False),
    sa.Column("action", _NAME, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),  # the priority negated: the index serves in ascending order
    sa.Column("fingerprint", _HASH, nullable=False),
    sa.Column("state", _WORD, nullable=False),
    sa.Column("status_reason", _TEXT, nullable=False),
    sa.Column("pending", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("attempts_left", sa.Integer, nullable=False),
    sa.Column("claim_id", _UUID),
    sa.Column("agent_id", _UUID),
    sa.Column("detached", sa.Integer, nullable=False),
    sa.Column("confirmed", sa.Integer),
    sa.Column("undo_of", _UUID),
    sa.Column("batch", sa.Integer),
    sa.Column("concurrency_key", sa.String(255)),
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("ready_at", _TIME),
    sa.Column("started_at", _TIME),
    sa.Column("finished_at", _TIME),
    sa.Column("not_before", _TIME),
    sa.Column("lease_until", _TIME),
    sa.Column("cancel_until", _TIME),
    sa.Column("deadline_at", _TIME),
    sa.Column("due_at", _TIME),
    sa.Index("task_by_workflow", "workflow_id", "seq"),
    sa.Index("task_by_state", "workflow_id", "state"),
    sa.Index("task_by_definition", "project_id", "definition_id"),
    _partial("task_by_name", "workflow_id", "name", where="holds_name = 1"),
    _partial("task_attached", "workflow_id", "detached", where="detached = 0"),
    _partial("task_claimable", "project_id", "route", "state", "rank", "ready_at", where=READY),
    _partial("task_by_due", "due_at", where="due_at IS NOT NULL"),
    _partial("task_live", "state", "ready_at", where=LIVE),
    _partial("task_by_key", "project_id", "concurrency_key", "state", where="concurrency_key IS NOT NULL"),
    _partial("task_fanout", "workflow_id", "fanout", "batch", where="fanout IS NOT NULL"),
    _partial("task_undo", "undo_of", where="undo_of IS NOT NULL"),
    _partial("task_held", "agent_id", "state", where=HELD),
    **_MARIADB,
)

requirement = sa.Table(
    "requirement",
    metadata,
    sa.Column("task_id", _UUID, primary_key=True),
    sa.Column("requires_id", _UUID, primary_key=True),
    sa.Column("workflow_id", _UUID, nullable=False),
    sa.Index("requirement_reverse", "requires_id"),
    sa.Index("requirement_by_workflow", "workflow_id"),
    **_MARIADB,
)

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("task_id", _UUID, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("agent_id", _UUID, nullable=False),
    sa.Column("claim_id", _UUID, nullable=False),
    sa.Column("claimed_at", _TIME, nullable=False),
    sa.Column("finished_at", _TIME),
    sa.Column("result", _WORD),
    sa.Column("reason", _TEXT, nullable=False),
    sa.Column("digest", _HASH),
    sa.Column("deploy_status_code", sa.BigInteger),
    sa.Column("deploy_stdout", _TEXT, nullable=False),
    sa.Column("deploy_stderr", _TEXT, nullable=False),
    sa.Column("outputs", _TEXT, nullable=False),
    sa.Index("attempt_by_claim", "agent_id", "claim_id", unique=True),  # one claim, one lease: also of a repeat (G3)
    **_MARIADB,
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("workflow_id", _UUID, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("type", _WORD, nullable=False),
    sa.Column("task_id", _UUID),
    sa.Column("body", _TEXT, nullable=False),
    **_MARIADB,
)

agent = sa.Table(
    "agent",
    metadata,
    sa.Column("id", _UUID, primary_key=True),
    sa.Column("project_id", _HASH, nullable=False),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("server", _ROUTE),
    sa.Column("capabilities", _TEXT, nullable=False),
    sa.Column("heat", _TEXT),
    sa.Column("state", _WORD, nullable=False),
    sa.Column("draining", sa.Integer, nullable=False),
    sa.Column("fingerprint", _HASH, nullable=False),
    sa.Column("join_hash", _HASH),
    sa.Column("join_expires_at", _TIME),
    sa.Column("join_used_at", _TIME),
    sa.Column("join_used_by", _HASH),
    sa.Column("cred_hash", _HASH),
    sa.Column("cred_gen", sa.Integer, nullable=False),
    sa.Column("cred_made_at", _TIME),
    sa.Column("next_hash", _HASH),
    sa.Column("prev_hash", _HASH),
    sa.Column("prev_until", _TIME),
    sa.Column("old_hashes", _TEXT, nullable=False),
    sa.Column("nonce", sa.String(128)),
    sa.Column("hw_uuid", sa.String(64)),
    sa.Column("version", sa.String(64)),
    sa.Column("inventory", _TEXT, nullable=False),
    sa.Column("polls_at", _UUID),  # the replica where its newest poll waits; empty where there is one process
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("last_seen_at", _TIME),
    sa.Column("revoked_at", _TIME),
    sa.Index("agent_by_project", "project_id", "created_at", "id"),
    sa.Index("agent_by_server", "project_id", "server"),
    _partial("agent_revoked", "revoked_at", where="revoked_at IS NOT NULL"),
    **_MARIADB,
)

agent_event = sa.Table(
    "agent_event",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("agent_id", _UUID, nullable=False),
    sa.Column("project_id", _HASH, nullable=False),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("type", _WORD, nullable=False),
    sa.Column("body", _TEXT, nullable=False),
    sa.Column("task_id", _UUID),  # of a late report
    sa.Index("agent_event_by_agent", "agent_id", "id"),
    sa.Index("agent_event_by_task", "task_id", "id"),
    **_MARIADB,
)

log_chunk = sa.Table(
    "log_chunk",
    metadata,
    sa.Column("task_id", _UUID, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("stream", _WORD, nullable=False),
    sa.Column("text", _TEXT, nullable=False),
    **_MARIADB,
)

# Hidden values, encrypted; a task's inputs go when it ends.
secret = sa.Table(
    "secret",
    metadata,
    sa.Column("task_id", _UUID, primary_key=True),
    sa.Column("kind", _WORD, primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("sealed", _TEXT, nullable=False),
    **_MARIADB,
)

# One row per concurrency key that is taken.
lock = sa.Table(
    "lock",
    metadata,
    sa.Column("project_id", _HASH, primary_key=True),
    sa.Column("concurrency_key", sa.String(255), primary_key=True),
    sa.Column("task_id", _UUID, nullable=False),
    **_MARIADB,
)

# Wake-ups between replicas where the database has no notification of its own; rows live for a minute.
news = sa.Table(
    "news",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("keys", _TEXT, nullable=False),
    **_MARIADB,
)
