# SPDX-License-Identifier: Apache-2.0
"""JSON and numbers that somebody else wrote, a hook or an API out of order: read at bounded cost, within bounds.

Python reads as JSON what no store takes: NaN, Infinity, 1e400, integers of a million digits.
"""

from __future__ import annotations

import json
import math
from typing import Any, Union

INTEGERS = range(-(2**63), 2**63)
_DIGITS_MOST = 20


def read_json(text: Union[str, bytes]) -> Any:
    """The value; ValueError for what is no JSON, RecursionError for what is nested too deep.

    An integer of more than 20 digits comes as one outside of ``INTEGERS``: reading it would take longer with the square
    of its length.
    """
    return json.loads(text, parse_int=_integer)


def as_seconds(value: Any, default: float, least: float, most: float) -> float:
    """The number within the bounds; the default for what is no number at all (NaN, text, null, true)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return default
    return float(min(most, max(least, value)))


def as_status_code(value: Any) -> int | None:
    """The whole number of 32 bits that is meant, however it was written; None when none is."""
    try:
        code = int(value)
        meant = code == value or isinstance(value, str)
    except (TypeError, ValueError, OverflowError):
        return None
    return code if meant and -(2**31) <= code < 2**31 else None


def is_finite(value: Union[int, float]) -> bool:
    """Whether a store can take the number."""
    return value in INTEGERS if isinstance(value, int) else math.isfinite(value)


def _integer(digits: str) -> int:
    if len(digits) <= _DIGITS_MOST:
        return int(digits)
    return INTEGERS.start - 1 if digits.startswith("-") else INTEGERS.stop
