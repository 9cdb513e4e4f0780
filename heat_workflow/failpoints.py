# SPDX-License-Identifier: Apache-2.0
"""Failpoints: named moments between two statements at which the process can be made to die, as by kill -9.

``HEAT_WORKFLOW_FAILPOINT=claim.leased`` ends the process when it first comes to that moment, ``claim.leased:3`` at the
third time; ``claim.leased:3:raise`` raises an error there that nobody expects, the first three times, and nothing dies.
Without the variable, as always in production, a failpoint does nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator

VARIABLE = "HEAT_WORKFLOW_FAILPOINT"
EXIT_STATUS = 137  # what a shell reports of a process that was killed


class Injected(Exception):
    """An error that a test has asked for."""


def failpoint(name: str) -> None:
    """Die here if the environment says so: nothing is flushed, rolled back or closed."""
    armed = _armed()
    if armed is None or armed.name != name:
        return
    if armed.raises:
        faultpoint(name)
    elif next(armed.hits) == armed.count:
        os._exit(EXIT_STATUS)


def faultpoint(name: str) -> None:
    """Raise here if the environment says so. For moments that have no transaction to be lost."""
    armed = _armed()
    if armed is not None and armed.raises and armed.name == name and next(armed.hits) <= armed.count:
        raise Injected(name)


@dataclasses.dataclass(frozen=True)
class _Armed:
    """The armed name, a counter of its hits, and the hit that ends the process, or the last that raises."""

    name: str
    hits: Iterator[int]
    count: int
    raises: bool


@functools.cache
def _armed() -> _Armed | None:
    name, count, what = [*os.environ.get(VARIABLE, "").split(":"), "", ""][:3]
    return _Armed(name, itertools.count(1), int(count or 1), what == "raise") if name else None
