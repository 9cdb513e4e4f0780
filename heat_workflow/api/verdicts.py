# SPDX-License-Identifier: Apache-2.0
"""Verdicts: what keystone said of tokens, kept for a while; and who may ask it how often at once."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from heat_workflow import errors
from heat_workflow.api.limits import TOKENS_AT_ONCE, TOKENS_MOST, TOKENS_WAITING

P = ParamSpec("P")
T = TypeVar("T")
_KEPT_MOST = 20_000  # verdicts, and tokens that were good before
_NEW_AT_ONCE = 32  # threads for tokens not seen before
_KNOWN_AT_ONCE = 16  # threads for tokens that were good before


@dataclasses.dataclass(frozen=True)
class Operator:
    """A caller of the operator side; the project comes from the token alone (R3)."""

    user_id: str
    project_id: str
    roles: Sequence[str]

    def credentials(self) -> Mapping[str, Any]:
        return {"user_id": self.user_id, "project_id": self.project_id, "roles": list(self.roles)}


class Verdicts:
    """Good tokens by their SHA-256. ``seconds`` is how long a verdict is believed, none at all below 1; a token that
    ends sooner ends here too. ``clock`` is the time of day, as tokens have it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[tuple[str, ...], tuple[Operator, float]] = {}
        self._good: dict[str, None] = {}

    def find(self, key: str, method: str, path: str) -> Operator | None:
        for place in ((key,), (key, method, path)):
            operator, until = self._kept.get(place, (None, 0.0))
            if operator is not None and self._clock() < until:
                return operator
        return None

    def knows(self, key: str) -> bool:
        """Whether the token was good once: then it is no stranger's."""
        return key in self._good

    def keep(self, key: str, operator: Operator, ends: float, place: tuple[str, str] | None) -> None:
        """``place`` is the method and path that the verdict holds for; None if it holds for all."""
        _put(self._good, key, None)
        if self._seconds >= 1:
            _put(self._kept, (key, *(place or ())), (operator, min(ends, self._clock() + self._seconds)))


def _put(kept: dict[Any, Any], key: Any, value: Any) -> None:
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > _KEPT_MOST:
        kept.pop(next(iter(kept)), None)


class Lanes:
    """Threads that wait for keystone. Tokens that were good before have theirs; of new ones, which anybody can make
    up, only so many wait, of one source and altogether."""

    def __init__(self) -> None:
        self._known = concurrent.futures.ThreadPoolExecutor(_KNOWN_AT_ONCE, "known-token")
        self._new = concurrent.futures.ThreadPoolExecutor(_NEW_AT_ONCE, "new-token")
        self._waiting: collections.Counter[str] = collections.Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    async def run(self, known: bool, source: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The work's result. TooMany or Unavailable if too many new tokens wait."""
        loop = asyncio.get_running_loop()
        if known:
            return await loop.run_in_executor(self._known, lambda: work(*args, **kwargs))
        self._admit(source)
        self._waiting[source] += 1
        turn = self._turns.setdefault(source, asyncio.Semaphore(TOKENS_AT_ONCE))
        try:
            async with turn:
                return await loop.run_in_executor(self._new, lambda: work(*args, **kwargs))
        finally:
            self._waiting[source] -= 1
            if not self._waiting[source]:
                del self._waiting[source], self._turns[source]

    def _admit(self, source: str) -> None:
        later = 1 + 2 * random.random()
        if self._waiting[source] >= TOKENS_WAITING:
            raise errors.TooMany("too many new tokens from your address wait for keystone", retry_after=later)
        if sum(self._waiting.values()) >= TOKENS_MOST:
            raise errors.Unavailable("too many new tokens wait for keystone; repeat the request", retry_after=later)
