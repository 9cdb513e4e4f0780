# SPDX-License-Identifier: Apache-2.0
"""The heartbeat: a thread that extends a lease while its hook runs, the way a cancel reaches the hook."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Callable

from guest_agent.api_client import ApiClient
from guest_agent.errors import ApiError, Conflict, NotMine, Revoked
from guest_agent.task import Attempt
from guest_agent.untrusted import as_seconds

LOG = logging.getLogger(__name__)

DEFAULT_GRACE = 10.0
GRACE_MOST = 600.0
LEAST_INTERVAL = 2.5  # seconds; the API takes one in two
SHARE_OF_AGE = 0.1

Stop = Callable[[str, float], None]


class Heartbeat:
    """While entered, one beat per interval. ``revoked`` is set when the API says the agent is no more.

    A young hook beats more often, so that a cancel reaches it within a tenth of the time it has run so far: who cancels
    a hook of a few seconds waits for few seconds, and thousands of long ones do not cost more than they must.
    """

    def __init__(
        self,
        client: ApiClient,
        attempt: Attempt,
        *,
        interval: float,
        first: float,
        stop: Stop,
        contact: Callable[[], None],
        rotate: Callable[[ApiClient], None],
    ) -> None:
        """``interval`` is the longest there may be between two beats, ``first`` that before the first.

        ``stop(why, grace)`` ends the hook and may be called repeatedly; ``contact()`` is told of every answer;
        ``rotate(client)`` may rotate the secret. All are called in the thread.
        """
        self._client = client
        self._attempt = attempt
        self._interval = interval
        self._first = first
        self._stop_hook = stop
        self._contact = contact
        self._rotate = rotate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.revoked = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it without waiting for a beat that is on its way."""
        self._over.set()

    def _beat(self) -> None:
        client: ApiClient | None = None
        wait, began = self._first, time.monotonic()
        while not self._over.wait(wait):
            wait = min(self._interval, max(LEAST_INTERVAL, (time.monotonic() - began) * SHARE_OF_AGE))
            try:
                client = client or self._client.sibling()
                self._rotate(client)
                if not self._extend(client):
                    break
            except Exception:  # without the heartbeat the lease is lost, and no cancel reaches the hook
                LOG.exception("%s: a heartbeat met an error; the next one is tried", self._attempt)
        if client is not None:
            client.close()

    def _extend(self, client: ApiClient) -> bool:
        """One beat; whether there is any sense in another."""
        try:
            answer = client.heartbeat(self._attempt)
        except Revoked:
            self.revoked = True
            LOG.error("%s: the agent was revoked, the hook is stopped", self._attempt)
            self._end("the agent was revoked", DEFAULT_GRACE)
            return False
        except Conflict:
            LOG.warning("%s: the lease went to another attempt, the hook is stopped", self._attempt)
            self._end("the lease was lost", DEFAULT_GRACE)
            return False
        except NotMine:
            LOG.warning("%s: the API does not know the lease; the hook goes on", self._attempt)
            return True
        except ApiError as error:
            LOG.warning("%s: heartbeat failed: %s", self._attempt, error)
            return True
        self._contact()
        if answer.get("cancel") is True:
            LOG.info("%s: cancelled by the API", self._attempt)
            self._end("cancelled", as_seconds(answer.get("grace"), DEFAULT_GRACE, 0.0, GRACE_MOST))
        return True

    def _end(self, why: str, grace: float) -> None:
        if not self._over.is_set():
            self._stop_hook(why, grace)
