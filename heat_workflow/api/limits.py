# SPDX-License-Identifier: Apache-2.0
"""Limits: how often one caller may ask in vain. Work is never limited, only what an honest agent has no use for.

Each API process counts for itself and in memory: a limit holds off abuse, nothing depends on its exact number. A
legal request that meets one is answered 429 with the time to come back, and changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator

from heat_workflow import errors

_KEYS_MOST = 100_000  # callers remembered by one meter; above it the longest silent one is forgotten first


@dataclasses.dataclass(frozen=True)
class Rate:
    """``per_second`` in the long run, ``burst`` at once."""

    per_second: float
    burst: int


EMPTY_CLAIMS = Rate(1.0, 20)  # by agent: claims that came back with nothing without having waited
HEARTBEATS = Rate(0.5, 20)  # by agent and task
LOG_CHUNKS = Rate(2.0, 20)  # by agent and task
SESSIONS = Rate(5.0, 50)  # by agent and source address: hello, generous to an agent that is restarted in a loop
ROTATIONS = Rate(1 / 60, 30)  # by agent and source address: an honest one rotates twice a day and at its starts
SUPERSEDED = Rate(1 / 60, 5)  # by agent: polls ended by newer ones; an honest one loses few to its network
REFUSALS = Rate(
    2.0, 100
)  # by agent and source address: an honest one meets a few after a restore, a guesser nothing else
WRONG_JOIN_TOKENS = Rate(10 / 60, 10)  # by source address, and by agent id
DOWNLOADS = Rate(20.0, 500)  # by source address: a whole network behind one router boots at once
TOKENS_AT_ONCE = 8  # by source address: keystone tokens not seen before that are being validated
TOKENS_WAITING = 50  # by source address: those, and the ones that wait for it
TOKENS_MOST = 400  # the same, of all sources together
AUDITS = Rate(1 / 60, 10)  # by agent and kind: security events written down


class Meter:
    """How much of its rate each key has used: one number per key, the moment from which it has all of it again."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic, keys_most: int = _KEYS_MOST) -> None:
        self._interval = 1 / rate.per_second
        self._slack = (rate.burst - 1) * self._interval
        self._clock = clock
        self._keys_most = keys_most
        self._whole_at: dict[str, float] = {}

    def count(self, key: str) -> None:
        """The key did it once more. What goes beyond the rate is not added up: a flood ends when it ends."""
        now = self._clock()
        used_until = max(self._whole_at.pop(key, now), now) + self._interval
        self._forget(now)
        self._whole_at[key] = min(used_until, now + self._slack + self._interval)

    def give_back(self, key: str) -> None:
        """The last time did not count after all."""
        if key in self._whole_at:
            self._whole_at[key] -= self._interval

    def seconds_over(self, key: str) -> float:
        """How long until the key may do it again; 0 while it may."""
        now = self._clock()
        return max(0.0, self._whole_at.get(key, now) - self._slack - now)

    def _forget(self, now: float) -> None:
        """Drop keys that have their whole rate again, the longest silent first; a few each time, so it stays cheap."""
        for key in list(itertools.islice(self._whole_at, 2)):
            if self._whole_at[key] <= now or len(self._whole_at) >= self._keys_most:
                del self._whole_at[key]


class Limits:
    """Every limit of one API process. ``clock`` counts seconds; ``jitter`` gives a number below 1."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        self.clock = clock
        self._jitter = jitter
        self._empty_claims = Meter(EMPTY_CLAIMS, clock)
        self._heartbeats = Meter(HEARTBEATS, clock)
        self._log_chunks = Meter(LOG_CHUNKS, clock)
        self._sessions = Meter(SESSIONS, clock)
        self._rotations = Meter(ROTATIONS, clock)
        self._superseded = Meter(SUPERSEDED, clock)
        self._refusals = Meter(REFUSALS, clock)
        self._wrong_tokens = Meter(WRONG_JOIN_TOKENS, clock)
        self._downloads = Meter(DOWNLOADS, clock)
        self._audits = Meter(AUDITS, clock)

    def empty_claims_over(self, agent_id: str) -> float:
        """Seconds until the agent may claim in vain again, 0 while it may."""
        return self._empty_claims.seconds_over(agent_id)

    @contextlib.contextmanager
    def claiming(self, agent_id: str) -> Iterator[Callable[[], None]]:
        """A claim counts from its start, so that many at once count too. It did not count if it waited for a second
        or more, as agents are asked to, or if the caller says that it gave work."""
        self._empty_claims.count(agent_id)
        began, gave_work = self.clock(), []
        try:
            yield lambda: gave_work.append(True)
        finally:
            if gave_work or self.clock() - began >= 1:
                self._empty_claims.give_back(agent_id)

    def admit_heartbeat(self, agent_id: str, task_id: str) -> None:
        self._take(self._heartbeats, f"{agent_id}/{task_id}", f"heartbeats of task {task_id} come too often")

    def admit_log(self, agent_id: str, task_id: str) -> None:
        self._take(self._log_chunks, f"{agent_id}/{task_id}", f"log chunks of task {task_id} come too often")

    def admit_session(self, agent_id: str) -> None:
        self._take(self._sessions, agent_id, f"agent {agent_id} begins too many sessions")

    def admit_rotation(self, agent_id: str) -> None:
        self._take(self._rotations, agent_id, f"agent {agent_id} announces too many secrets")

    def admit_superseded(self, agent_id: str) -> bool:
        """Whether one more poll that a newer one has ended may be the network's doing; else two take turns."""
        over = self._superseded.seconds_over(agent_id) > 0
        self._superseded.count(agent_id)
        return not over

    def admit_download(self, source: str) -> None:
        self._take(self._downloads, source, "the agent is fetched too often from your address")

    def admit_agent(self, agent_id: str) -> None:
        """Hold off an agent that has been refused time and again."""
        self._admit(self._refusals, agent_id, f"agent {agent_id} was refused too often; drop what was refused")

    def count_refusal(self, agent_id: str) -> None:
        self._refusals.count(agent_id)

    def count_wrong_join_token(self, source: str, agent_id: str) -> None:
        """A join token whose secret is not the agent's. Wrong ones never stand in the way of the right one: this is
        asked after the secret was looked at, so that nobody who knows an id, or shares an address, can lock it out."""
        keys = (f"from {source}", f"for {agent_id}")
        for key in keys:
            self._admit(self._wrong_tokens, key, "too many wrong join tokens")
        for key in keys:
            self._wrong_tokens.count(key)

    def admit_audit(self, agent_id: str, what: str) -> bool:
        """Whether one more security event of this kind is worth a row: the tenth says what a flood would say."""
        key = f"{agent_id}/{what}"
        if self._audits.seconds_over(key):
            return False
        self._audits.count(key)
        return True

    def too_many(self, detail: str, seconds: float) -> errors.TooMany:
        """429, each caller sent away for a different time, so that they do not come back together."""
        return errors.TooMany(detail, retry_after=seconds + 1 + 2 * self._jitter())

    def _take(self, meter: Meter, key: str, detail: str) -> None:
        self._admit(meter, key, detail)
        meter.count(key)

    def _admit(self, meter: Meter, key: str, detail: str) -> None:
        seconds = meter.seconds_over(key)
        if seconds > 0:
            raise self.too_many(detail, seconds)
