# SPDX-License-Identifier: Apache-2.0
"""Auditing: how many security events of an agent are worth a row. What a guest can cause it can cause without end."""

from __future__ import annotations

from heat_workflow.store import Tx

WINDOW = 600.0  # seconds
IN_WINDOW = 10  # events of one agent and kind: the tenth says what a flood would say
_SOME_MORE = {"rotated": 30}  # what an honest agent does so often when it is restarted in a loop
_LOOKED_AT = 200  # newest events of an agent: more than there can be in a window


def is_worth_a_row(tx: Tx, agent_id: str, kind: str) -> bool:
    """Whether one more event of this kind is to be written down, whichever replica hears of it.

    For what agents, and those who pretend to be one, bring about. What operators do is written down always.
    """
    recent = tx.recent_agent_events(agent_id, _LOOKED_AT)
    said = sum(type_ == kind and at > tx.now - WINDOW for type_, at in recent)
    return said < _SOME_MORE.get(kind, IN_WINDOW)
