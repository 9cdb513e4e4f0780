# SPDX-License-Identifier: Apache-2.0
"""Alembic's entry: run the migrations on the connection that schema.py hands over."""

from alembic import context

from heat_workflow.store import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.metadata)
with context.begin_transaction():
    context.run_migrations()
