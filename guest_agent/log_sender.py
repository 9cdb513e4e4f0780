# SPDX-License-Identifier: Apache-2.0
"""The log sender: a thread that sends a running hook's chunks to the API, one request a second at most."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from guest_agent.api_client import ApiClient
from guest_agent.errors import ApiError, Unreachable
from guest_agent.live_log import Chunk, LogReader
from guest_agent.task import Attempt

LOG = logging.getLogger(__name__)

INTERVAL = 1.0
RETRY = 5.0
CHUNKS_MOST = 64
BYTES_MOST = 512 * 1024
LAST_WAIT = 2.0
LAST_REQUESTS = 4


class LogSender:
    """While entered it sends. A hook that is over before the first second sends nothing: its report says it all."""

    def __init__(self, client: ApiClient, attempt: Attempt, reader: LogReader) -> None:
        self._client = client
        self._attempt = attempt
        self._reader = reader
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> LogSender:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let it send the end of the log, which has no place once the report is there; not for long."""
        self._over.set()
        self._thread.join(LAST_WAIT)

    def _run(self) -> None:
        if self._over.wait(INTERVAL):
            return
        client = self._client.sibling()
        try:
            self._send_all(client)
        except Exception:  # the report has the head and the tail
            LOG.exception("%s: the log is not sent any more", self._attempt)
        finally:
            client.close()

    def _send_all(self, client: ApiClient) -> None:
        while not self._over.is_set():
            if not self._send(client, self._next()):
                return
            self._over.wait(INTERVAL)
        for _ in range(LAST_REQUESTS):
            chunks = self._next()
            if not chunks or not self._send(client, chunks):
                return

    def _next(self) -> list[Chunk]:
        return self._reader.next_chunks(CHUNKS_MOST, BYTES_MOST)

    def _send(self, client: ApiClient, chunks: list[Chunk]) -> bool:
        """Send them, again and again while the API is away; whether there is any sense in sending more."""
        while chunks:
            try:
                client.log(self._attempt, chunks)
                return True
            except Unreachable as error:
                if self._over.wait(max(RETRY, error.retry_after or 0.0)):
                    return False
            except ApiError as error:
                LOG.warning("%s: the log is not taken any more: %s", self._attempt, error)
                return False
        return True
