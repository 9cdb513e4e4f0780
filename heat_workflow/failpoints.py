# SPDX-License-Identifier: Apache-2.0
"""Failpoints: named moments between two statements at which the process can be made to die, as by kill -9.

``HEAT_WORKFLOW_FAILPOINT=claim.leased`` ends the process when it first comes to that moment, ``claim.leased:3`` at the
third time. Without the variable, as always in production, a failpoint does nothing.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator

VARIABLE = "HEAT_WORKFLOW_FAILPOINT"
EXIT_STATUS = 137  # what a shell reports of a process that was killed


def failpoint(name: str) -> None:
    """Die here if the environment says so: nothing is flushed, rolled back or closed."""
    armed = _armed()
    if armed is not None and armed[0] == name and next(armed[1]) == armed[2]:
        os._exit(EXIT_STATUS)


@functools.cache
def _armed() -> tuple[str, Iterator[int], int] | None:
    """The armed name, a counter of its hits, and the hit that ends the process."""
    name, _, count = os.environ.get(VARIABLE, "").partition(":")
    return (name, itertools.count(1), int(count or 1)) if name else None
