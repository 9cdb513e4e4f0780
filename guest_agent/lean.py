# SPDX-License-Identifier: Apache-2.0
"""Lean: keeps out of memory what requests would load and the agent never uses."""

from __future__ import annotations

import sys
from types import ModuleType

_DETECTOR = "charset_normalizer"


def leave_out_charset_detection() -> None:
    """To be called before requests is imported first, in a process that is the agent's own.

    requests guesses the encoding of text it does not know; we read bytes and JSON alone. The tables for the guess are
    3 of 32 MB.
    """
    if "requests" in sys.modules or _DETECTOR in sys.modules:
        return
    stand_in = ModuleType(_DETECTOR)
    setattr(stand_in, "__version__", "3.0.0")  # noqa: B010
    setattr(stand_in, "detect", lambda _data: {"encoding": None})  # noqa: B010
    sys.modules[_DETECTOR] = stand_in
