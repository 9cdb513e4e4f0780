# SPDX-License-Identifier: Apache-2.0
"""Proof: an agent's credential checked at every call; a next one promoted, an old one reported. And its join token."""

from __future__ import annotations

import collections

from heat_workflow import errors
from heat_workflow.api.limits import Limits
from heat_workflow.model import Agent
from heat_workflow.store import Asks
from heat_workflow.taskqueue import TaskQueue, credentials, sessions

_REMEMBERED_MOST = 16384  # agents


async def proven_agent(queue: TaskQueue, token: credentials.Token, *, rotating: bool) -> Agent:
    """The agent that holds this credential, read anew from the store, so that a revocation counts at once (G25).

    Raises Unauthenticated or Gone. A credential past its day passes only where ``rotating``.
    """
    try:
        agent = await queue.glance_at(Asks(token.agent_id), sessions.authenticate, token, rotating)
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


class Remembered:
    """Credentials that were proven in this process, by agent.

    Whoever holds one may be read before the store is asked; what they ask for still proves it, in its own transaction,
    so that a revocation counts at once all the same (G25).
    """

    def __init__(self) -> None:
        self._agents: collections.OrderedDict[str, tuple[str, Agent]] = collections.OrderedDict()

    def note(self, token: credentials.Token, agent: Agent) -> None:
        self._agents[agent.id] = (token.secret_hash, agent)
        self._agents.move_to_end(agent.id)
        if len(self._agents) > _REMEMBERED_MOST:
            self._agents.popitem(last=False)

    def find(self, token: credentials.Token) -> Agent | None:
        """The agent as it was when this credential was proven."""
        secret_hash, agent = self._agents.get(token.agent_id, (None, None))
        return agent if credentials.matches(token.secret_hash, secret_hash) else None
