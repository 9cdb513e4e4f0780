# SPDX-License-Identifier: Apache-2.0
"""Polling: how a claim waits for work without holding anything, one waiting poll per agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from heat_workflow import model
from heat_workflow.failpoints import faultpoint
from heat_workflow.store import Asks, Tx
from heat_workflow.taskqueue import TaskQueue, announcing, claiming, ending
from heat_workflow.taskqueue.claiming import Claimed
from heat_workflow.wakeup import News, Wakeups

FLUSH_EVERY = 5.0  # seconds between writes of when agents were last seen


class Polls:
    """The waiting polls of this process, and when each agent was last heard of."""

    def __init__(self, queue: TaskQueue, wakeups: Wakeups, place: str | None = None) -> None:
        """``place`` names this process where several work on one store: an agent polls at one of them at a time."""
        self._queue = queue
        self._wakeups = wakeups
        self._place = place
        self._waiting: dict[str, News] = {}
        self._seen: dict[str, float] = {}

    def saw(self, agent_id: str) -> None:
        """Note that the agent was heard of just now; written down a little later."""
        self._seen[agent_id] = asyncio.get_running_loop().time()

    def waiting(self, agent_id: str) -> bool:
        """Whether a poll of the agent is waiting in this process."""
        return agent_id in self._waiting

    def count(self) -> int:
        """How many polls are waiting in this process."""
        return len(self._waiting)

    async def claim(
        self,
        agent: model.Agent,
        claim_id: str,
        seconds: float,
        leaving: Callable[[], asyncio.Future[None]],
        bare: bool = False,
    ) -> Claimed | None:
        """The next task for the agent, waiting for one up to ``seconds``.

        A newer claim of the agent, here or at another replica, ends the wait: Conflict (superseded). So does the end
        of the process: Unavailable. A ``bare`` one came without the nonce of a session: it ends where the session shows
        its own (identity-in-use). ``leaving`` begins to watch the caller and is done when the caller has gone: then
        no task is taken, as nobody would hear of it.
        """
        self.saw(agent.id)
        if self._place is not None and agent.polls_at != self._place:
            await self._queue.write(claiming.poll_at, agent.id, self._place)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        keys = [f"agent:{agent.id}", *(announcing.route_key(agent.project_id, r) for r in agent.routes)]
        with self._wakeups.watch(keys) as news:
            self._take_place(agent.id, news)
            try:
                return await self._wait(agent, claim_id, news, deadline, leaving, bare)
            finally:
                if self._waiting.get(agent.id) is news:
                    del self._waiting[agent.id]

    async def _wait(
        self,
        agent: model.Agent,
        claim_id: str,
        news: News,
        deadline: float,
        leaving: Callable[[], asyncio.Future[None]],
        bare: bool,
    ) -> Claimed | None:
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] | None = None
        try:
            while gone is None or not gone.done():
                claimed = await self._look(agent, claim_id, news, None if gone is None else self._place, bare)
                left = deadline - loop.time()
                if claimed is not None or left <= 0:
                    return claimed
                if gone is None:
                    gone = leaving()
                    gone.add_done_callback(lambda _: news.ring())
                if not await news.wait(left) and loop.time() >= deadline:
                    return None  # the next poll comes at once, and begins with a look
            return None
        finally:
            if gone is not None:
                gone.cancel()

    async def _look(
        self, agent: model.Agent, claim_id: str, news: News, place: str | None, bare: bool
    ) -> Claimed | None:
        """Take what is there for the agent; the hints that were about something else go on to the next.

        Without a hint there is nothing mostly, and on SQLite a look that only reads costs less; on a server a claim is
        run together with those of others, and locks nothing where there is nothing.
        """
        if self._waiting.get(agent.id) is not news:
            raise claiming.superseded()
        if news.closed:
            raise ending()
        hints = news.take_hints()
        try:
            looks = not hints and self._queue.looks_first
            if looks and not await self._queue.glance(claiming.has_work, agent.id, claim_id, place, bare):
                return None
            asks = Asks(agent.id, claim_id=claim_id)
            claimed = await self._queue.turn(asks, claiming.claim, agent.id, claim_id, place, bare)
            if claimed is not None:
                hints.pop(announcing.route_key(agent.project_id, claimed.task.route), None)
            elif hints:
                ready = await self._queue.glance(claiming.keys_with_ready, agent, hints.keys())
                hints = {key: hint for key, hint in hints.items() if key in ready}
            return claimed
        finally:
            self._wakeups.pass_on(hints.values())

    def _take_place(self, agent_id: str, news: News) -> None:
        older = self._waiting.get(agent_id)
        self._waiting[agent_id] = news
        if older is not None:
            older.ring()

    async def flush(self) -> None:
        """Write down what was noted. Agents are many and times are for people: every ``FLUSH_EVERY`` s is enough."""
        noted, self._seen = self._seen, {}
        if not noted:
            return
        now = asyncio.get_running_loop().time()

        def save(tx: Tx) -> None:
            faultpoint("seen.saved")
            tx.save_last_seen({agent_id: tx.now - (now - at) for agent_id, at in noted.items()})

        try:
            await self._queue.write(save)
        except Exception:
            self._seen = {**noted, **self._seen}
            raise
