# SPDX-License-Identifier: Apache-2.0
"""One transaction: the Tx protocol in SQL, the same text for every database; a file for each noun."""

from __future__ import annotations

from heat_workflow.store.transaction.agents import Agents
from heat_workflow.store.transaction.hidden import Hidden
from heat_workflow.store.transaction.history import History
from heat_workflow.store.transaction.tasks import Tasks
from heat_workflow.store.transaction.workflows import Workflows


class SqlTx(Workflows, Tasks, Hidden, History, Agents):
    """What a use case may do between BEGIN and COMMIT."""
