# SPDX-License-Identifier: Apache-2.0
"""Polling: how a claim waits for work without holding anything, one waiting poll per agent."""

from __future__ import annotations

import asyncio

from heat_workflow import errors, model
from heat_workflow.store import Tx
from heat_workflow.taskqueue import TaskQueue, announcing, claiming
from heat_workflow.taskqueue.claiming import Claimed
from heat_workflow.wakeup import News, Wakeups

_FLUSH_EVERY = 5.0  # seconds between writes of when agents were last seen


class Polls:
    """The waiting polls of this process, and when each agent was last heard of."""

    def __init__(self, queue: TaskQueue, wakeups: Wakeups) -> None:
        self._queue = queue
        self._wakeups = wakeups
        self._waiting: dict[str, News] = {}
        self._seen: dict[str, float] = {}

    def saw(self, agent_id: str) -> None:
        """Note that the agent was heard of just now; written down a little later."""
        self._seen[agent_id] = asyncio.get_running_loop().time()

    def waiting(self, agent_id: str) -> bool:
        """Whether a poll of the agent is waiting in this process."""
        return agent_id in self._waiting

    async def claim(self, agent: model.Agent, claim_id: str, seconds: float) -> Claimed | None:
        """The next task for the agent, waiting for one up to ``seconds``; a newer claim of the agent ends the wait."""
        self.saw(agent.id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        keys = [f"agent:{agent.id}", *(announcing.route_key(agent.project_id, r) for r in claiming.routes_of(agent))]
        with self._wakeups.watch(keys) as news:
            self._take_place(agent.id, news)
            try:
                return await self._wait(agent, claim_id, news, deadline)
            finally:
                if self._waiting.get(agent.id) is news:
                    del self._waiting[agent.id]

    async def _wait(self, agent: model.Agent, claim_id: str, news: News, deadline: float) -> Claimed | None:
        loop = asyncio.get_running_loop()
        while True:
            claimed = await self._look(agent, claim_id, news)
            if claimed is not None:
                return claimed
            left = deadline - loop.time()
            if left <= 0 or news.closed:
                return None
            await news.wait(left)
            if self._waiting.get(agent.id) is not news:
                raise errors.Conflict("a newer claim of this agent took the place of this one", code="superseded")

    async def _look(self, agent: model.Agent, claim_id: str, news: News) -> Claimed | None:
        """Take what is there for the agent; the hints that were about something else go on to the next."""
        hints = news.take_hints()
        try:
            seen = await self._queue.glance(claiming.look, agent.id, claim_id)
            if not seen.work:
                hints = {key: hint for key, hint in hints.items() if key in seen.beyond}
                return None
            claimed = await self._queue.write(claiming.claim, agent.id, claim_id)
            if claimed is not None:
                hints.pop(announcing.route_key(agent.project_id, claimed.task.route), None)
            return claimed
        finally:
            self._wakeups.pass_on(hints.values())

    def _take_place(self, agent_id: str, news: News) -> None:
        older = self._waiting.get(agent_id)
        self._waiting[agent_id] = news
        if older is not None:
            older.ring()

    async def keep_seen(self) -> None:
        """Write down what was noted, for ever; agents are many and times are for people, so now and then is enough."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            await self.flush()

    async def flush(self) -> None:
        noted, self._seen = self._seen, {}
        if not noted:
            return
        now = asyncio.get_running_loop().time()

        def save(tx: Tx) -> None:
            tx.save_last_seen({agent_id: tx.now - (now - at) for agent_id, at in noted.items()})

        await self._queue.write(save)
