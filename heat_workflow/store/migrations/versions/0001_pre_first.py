# SPDX-License-Identifier: Apache-2.0
"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001_pre"
down_revision = None

MARIADB = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}
UUID = sa.String(36)
WORD = sa.String(32)
HASH = sa.String(64)
NAME = sa.String(512)
ROUTE = sa.String(400)
TIME: sa.Double[float] = sa.Double()
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LIVE = sa.text("state IN ('cancelling', 'leased', 'ready', 'stalled', 'waiting')")
KEYED = sa.text("concurrency_key IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "workflow",
        sa.Column("id", UUID, primary_key=True),
        sa.Column("project_id", HASH, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("tags", TEXT, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("sealed", sa.Integer, nullable=False),
        sa.Column("on_failure", WORD, nullable=False),
        sa.Column("fingerprint", HASH, nullable=False),
        sa.Column("event_seq", sa.BigInteger, nullable=False),
        sa.Column("task_count", sa.BigInteger, nullable=False),
        sa.Column("byte_count", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index("workflow_by_project", "workflow", ["project_id", "created_at", "id"], if_not_exists=True)
    op.create_table(
        "definition",
        sa.Column("project_id", HASH, primary_key=True),
        sa.Column("id", HASH, primary_key=True),
        sa.Column("body", TEXT, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_table(
        "task",
        sa.Column("id", UUID, primary_key=True),
        sa.Column("project_id", HASH, nullable=False),
        sa.Column("workflow_id", UUID, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("fanout", NAME),
        sa.Column("holds_name", sa.Integer, nullable=False),
        sa.Column("definition_id", HASH, nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.Column("capabilities", TEXT, nullable=False),
        sa.Column("route", ROUTE, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("fingerprint", HASH, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("status_reason", TEXT, nullable=False),
        sa.Column("pending", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("attempts_left", sa.Integer, nullable=False),
        sa.Column("claim_id", UUID),
        sa.Column("agent_id", UUID),
        sa.Column("detached", sa.Integer, nullable=False),
        sa.Column("confirmed", sa.Integer),
        sa.Column("undo_of", UUID),
        sa.Column("batch", sa.Integer),
        sa.Column("concurrency_key", sa.String(255)),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ready_at", TIME),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("not_before", TIME),
        sa.Column("lease_until", TIME),
        sa.Column("cancel_until", TIME),
        sa.Column("deadline_at", TIME),
        sa.Column("due_at", TIME),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index("task_by_agent", "task", ["agent_id", "state"], if_not_exists=True)
    op.create_index("task_by_fanout", "task", ["workflow_id", "fanout", "batch"], if_not_exists=True)
    op.create_index(
        "task_by_key",
        "task",
        ["project_id", "concurrency_key", "state"],
        sqlite_where=KEYED,
        postgresql_where=KEYED,
        if_not_exists=True,
    )
    op.create_index("task_by_state", "task", ["workflow_id", "state"], if_not_exists=True)
    op.create_index("task_by_undo", "task", ["undo_of"], if_not_exists=True)
    op.create_index("task_by_workflow", "task", ["workflow_id", "seq"], if_not_exists=True)
    op.create_index("task_due", "task", ["due_at"], if_not_exists=True)
    op.create_index(
        "task_live", "task", ["state", "ready_at"], sqlite_where=LIVE, postgresql_where=LIVE, if_not_exists=True
    )
    op.create_index("task_ready", "task", ["project_id", "route", "state", "rank", "ready_at"], if_not_exists=True)
    op.create_table(
        "requirement",
        sa.Column("task_id", UUID, primary_key=True),
        sa.Column("requires_id", UUID, primary_key=True),
        sa.Column("workflow_id", UUID, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index("requirement_by_workflow", "requirement", ["workflow_id"], if_not_exists=True)
    op.create_index("requirement_reverse", "requirement", ["requires_id"], if_not_exists=True)
    op.create_table(
        "attempt",
        sa.Column("task_id", UUID, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("agent_id", UUID, nullable=False),
        sa.Column("claim_id", UUID, nullable=False),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("result", WORD),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("digest", HASH),
        sa.Column("deploy_status_code", sa.BigInteger),
        sa.Column("deploy_stdout", TEXT, nullable=False),
        sa.Column("deploy_stderr", TEXT, nullable=False),
        sa.Column("outputs", TEXT, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index("attempt_by_claim", "attempt", ["agent_id", "claim_id"], unique=True, if_not_exists=True)
    op.create_table(
        "event",
        sa.Column("workflow_id", UUID, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("task_id", UUID),
        sa.Column("body", TEXT, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_table(
        "agent",
        sa.Column("id", UUID, primary_key=True),
        sa.Column("project_id", HASH, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("server", ROUTE),
        sa.Column("capabilities", TEXT, nullable=False),
        sa.Column("heat", TEXT),
        sa.Column("state", WORD, nullable=False),
        sa.Column("draining", sa.Integer, nullable=False),
        sa.Column("fingerprint", HASH, nullable=False),
        sa.Column("join_hash", HASH),
        sa.Column("join_expires_at", TIME),
        sa.Column("join_used_at", TIME),
        sa.Column("join_used_by", HASH),
        sa.Column("cred_hash", HASH),
        sa.Column("cred_gen", sa.Integer, nullable=False),
        sa.Column("cred_made_at", TIME),
        sa.Column("next_hash", HASH),
        sa.Column("prev_hash", HASH),
        sa.Column("prev_until", TIME),
        sa.Column("old_hashes", TEXT, nullable=False),
        sa.Column("nonce", sa.String(128)),
        sa.Column("hw_uuid", sa.String(64)),
        sa.Column("version", sa.String(64)),
        sa.Column("inventory", TEXT, nullable=False),
        sa.Column("polls_at", UUID),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME),
        sa.Column("revoked_at", TIME),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index("agent_by_project", "agent", ["project_id", "created_at", "id"], if_not_exists=True)
    op.create_index("agent_by_server", "agent", ["project_id", "server"], if_not_exists=True)
    op.create_table(
        "agent_event",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("agent_id", UUID, nullable=False),
        sa.Column("project_id", HASH, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("task_id", UUID),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index("agent_event_by_agent", "agent_event", ["agent_id", "id"], if_not_exists=True)
    op.create_index("agent_event_by_task", "agent_event", ["task_id", "id"], if_not_exists=True)
    op.create_table(
        "log_chunk",
        sa.Column("task_id", UUID, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("stream", WORD, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_table(
        "secret",
        sa.Column("task_id", UUID, primary_key=True),
        sa.Column("kind", WORD, primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("sealed", TEXT, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_table(
        "lock",
        sa.Column("project_id", HASH, primary_key=True),
        sa.Column("concurrency_key", sa.String(255), primary_key=True),
        sa.Column("task_id", UUID, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_table(
        "news",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("keys", TEXT, nullable=False),
        if_not_exists=True,
        **MARIADB,
    )
