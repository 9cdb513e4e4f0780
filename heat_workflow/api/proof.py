# SPDX-License-Identifier: Apache-2.0
"""Proof: an agent's credential checked at every call; a next one promoted, an old one reported. And its join token."""

from __future__ import annotations

from heat_workflow import errors
from heat_workflow.api.limits import Limits
from heat_workflow.model import Agent
from heat_workflow.taskqueue import TaskQueue, credentials, sessions


async def proven_agent(queue: TaskQueue, token: credentials.Token, *, rotating: bool) -> Agent:
    """The agent that holds this credential, read anew from the store, so that a revocation counts at once (G25).

    Raises Unauthenticated or Gone. A credential past its day passes only where ``rotating``.
    """
    try:
        agent = await queue.glance(sessions.authenticate, token, rotating)
    except errors.Unauthenticated as exc:
        if exc.code != "rotate-required" and await queue.glance(sessions.may_be_old, token):
            await queue.write(sessions.record_refused_credential, token)
        raise
    if credentials.matches(token.secret_hash, agent.next_hash):
        await queue.write(sessions.promote, token)
    return agent


async def prove_join_token(queue: TaskQueue, token: credentials.Token, limits: Limits, source: str) -> None:
    """Raise Unauthenticated, or TooMany for a source that guesses, unless the agent was given this join token."""
    if not await queue.glance(sessions.knows_join_token, token):
        limits.count_wrong_join_token(source, token.agent_id)
        raise sessions.refused()
