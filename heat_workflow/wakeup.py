# SPDX-License-Identifier: Apache-2.0
"""Wake-ups: how a waiting request hears of news. Hints only; the store is the truth.

All of it runs in the event loop's thread. A waiter looks again by itself every ``recheck`` seconds, so a lost hint
costs time and nothing else (G2).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator

RECHECK = 25.0  # seconds between looks without a hint: below G2's 30 s, two looks in a default poll


class News:
    """One waiter's bell."""

    def __init__(self, now: Callable[[], float], recheck: float) -> None:
        self.now = now
        self._recheck = recheck
        self.closed = False
        self._bell = asyncio.Event()

    def ring(self) -> None:
        self._bell.set()

    async def wait(self, seconds: float) -> None:
        """Return at news, after ``seconds``, or when it is time to look without news."""
        pause = min(seconds, self._recheck * random.uniform(0.8, 1.0))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._bell.wait(), pause)
        self._bell.clear()


class Wakeups:
    """Who waits for which key in this process."""

    def __init__(self, recheck: float = RECHECK) -> None:
        self._recheck = recheck
        self._waiting: dict[str, set[News]] = {}
        self._closed = False

    @contextlib.contextmanager
    def watch(self, keys: Iterable[str]) -> Iterator[News]:
        """A bell that rings at every key published meanwhile."""
        news = News(asyncio.get_running_loop().time, self._recheck)
        news.closed = self._closed
        keys = list(keys)
        for key in keys:
            self._waiting.setdefault(key, set()).add(news)
        try:
            yield news
        finally:
            for key in keys:
                waiting = self._waiting[key]
                waiting.discard(news)
                if not waiting:
                    del self._waiting[key]

    def publish(self, keys: Iterable[str]) -> None:
        for key in keys:
            for news in self._waiting.get(key, ()):
                news.ring()

    def close(self) -> None:
        """End every wait, also those that begin later: the process goes down and each caller shall get its answer."""
        self._closed = True
        for waiting in self._waiting.values():
            for news in waiting:
                news.closed = True
                news.ring()
