# SPDX-License-Identifier: Apache-2.0
"""Sparing: a log that nobody can flood. Of warnings and errors that say the same the first few of a minute are kept.

Strangers cause some of them (requests that are not HTTP, tokens that are not valid, connections without end), and a
store that is full causes one for each request. What was left out is counted and told with the next one that is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

WINDOW = 60.0  # seconds
ALIKE_MOST = 10  # of one message in a window; the first alone with its traceback
LOGGER_MOST = 100  # of one logger in a window, whatever they say
_KEYS_MOST = 1000
_TALKATIVE = "keystonemiddleware"  # says of every token that is not good, in a line that is no warning


class Sparing(logging.Filter):
    """For the handlers of a process. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._began = clock()
        self._seen: dict[tuple[str, str], int] = {}
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING and not record.name.startswith(_TALKATIVE):
            return True
        if self._clock() - self._began >= WINDOW:
            self._began = self._clock()
            self._seen.clear()
        alike = self._count(record.name, str(record.msg))
        if alike > ALIKE_MOST or self._count(record.name, "") > LOGGER_MOST:
            self._left_out += 1
            return False
        if alike > 1:
            record.exc_info = record.exc_text = None
        if self._left_out:
            record.msg = f"{record.msg} [{self._left_out} warnings and errors were left out before this one]"
            self._left_out = 0
        return True

    def _count(self, name: str, message: str) -> int:
        key = (name, message) if len(self._seen) < _KEYS_MOST else (name, "")
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key]


def spare_the_log() -> None:
    """Let every handler of the process leave out what only repeats; to be called once the handlers are there."""
    sparing = Sparing()
    for handler in logging.getLogger().handlers:
        handler.addFilter(sparing)
