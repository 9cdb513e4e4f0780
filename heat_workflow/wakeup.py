# SPDX-License-Identifier: Apache-2.0
"""Wake-ups: how a waiting request hears of news. Hints only; the store is the truth.

All of it runs in the event loop's thread. A waiter looks again by itself every ``recheck`` seconds, so a lost hint
costs time and nothing else (G2).

News of a ready task is for one of those who wait for its route, whoever can take it. To wake them all would cost a
thousand looks for one task; so it goes to one, and from there to the next until somebody takes what it is about.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

RECHECK = 27.0  # seconds between looks without a hint: below G2's 30 s, one within a default poll
FOR_ONE = "route:"  # how the keys begin whose news is for one waiter


class Hint:
    """News that one waiter is to look at."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.shown: set[News] = set()


class News:
    """One waiter's bell."""

    def __init__(self, now: Callable[[], float], recheck: float) -> None:
        self.now = now
        self._recheck = recheck
        self.closed = False
        self.hints: dict[str, Hint] = {}
        self._rang = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self._rang = True
        if self._waiter is not None:
            _wake(self._waiter)

    def take_hints(self) -> dict[str, Hint]:
        """What this waiter is to look at now, by key. It passes on what is for somebody else."""
        taken, self.hints = self.hints, {}
        return taken

    async def wait(self, seconds: float) -> bool:
        """Return at news, after ``seconds``, or when it is time to look without news; whether there was news."""
        if not self._rang:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()  # ten thousand wait: a future and a timer are a third of wait_for
            pause = min(seconds, self._recheck * random.uniform(0.93, 1.0))
            alarm = loop.call_later(pause, _wake, self._waiter)
            try:
                await self._waiter
            finally:
                alarm.cancel()
                self._waiter = None
        rang, self._rang = self._rang, False
        return rang


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Wakeups:
    """Who waits for which key in this process, those who came first in front."""

    def __init__(self, recheck: float = RECHECK) -> None:
        self._recheck = recheck
        self._waiting: dict[str, dict[News, None]] = {}
        self._closed = False

    @contextlib.contextmanager
    def watch(self, keys: Iterable[str]) -> Iterator[News]:
        """A bell that rings at every key published meanwhile."""
        news = News(asyncio.get_running_loop().time, self._recheck)
        news.closed = self._closed
        keys = list(keys)
        for key in keys:
            self._waiting.setdefault(key, {})[news] = None
        try:
            yield news
        finally:
            for key in keys:
                waiting = self._waiting[key]
                waiting.pop(news, None)
                if not waiting:
                    del self._waiting[key]
            self.pass_on(news.take_hints().values())

    def publish(self, keys: Mapping[str, int]) -> None:
        """Wake those who wait for the keys: all of them, or as many as there is news for."""
        for key, count in keys.items():
            waiting = self._waiting.get(key, {})
            if key.startswith(FOR_ONE):
                self.pass_on(Hint(key) for _ in range(min(count, len(waiting))))
                continue
            for news in waiting:
                news.ring()

    def pass_on(self, hints: Iterable[Hint]) -> None:
        """Show each hint to the next who waits, has not seen it and has no other of its kind to look at."""
        for hint in hints:
            for news in self._waiting.get(hint.key, ()):
                if news not in hint.shown and hint.key not in news.hints:
                    hint.shown.add(news)
                    news.hints[hint.key] = hint
                    news.ring()
                    break

    def close(self) -> None:
        """End every wait, also those that begin later: the process goes down and each caller shall get its answer."""
        self._closed = True
        for waiting in self._waiting.values():
            for news in waiting:
                news.closed = True
                news.ring()
