# SPDX-License-Identifier: Apache-2.0
"""Sabotage: what is done to an agent before it starts, and so to its zygote and shims. For tests alone."""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guest_agent import api_client, heartbeat, inventory, loop, main, session, shim, spool, supervision
from guest_agent.spool import Spool

FAULT = "HEAT_WORKFLOW_TEST_FAULT"
BOOT = "HEAT_WORKFLOW_TEST_BOOT"
CLOCK = "HEAT_WORKFLOW_TEST_CLOCK"
HARDWARE = "HEAT_WORKFLOW_TEST_HARDWARE"
WAIT = "HEAT_WORKFLOW_TEST_WAIT"


def prepare() -> None:
    """All that the environment asks for."""
    if os.environ.get(FAULT):
        _fail_once(*os.environ[FAULT].split(":"))
    if os.environ.get(BOOT):
        setattr(main, "boot_id", lambda: os.environ[BOOT])  # noqa: B010
    if os.environ.get(CLOCK):
        _bend_clock(Path(os.environ[CLOCK]))
    if os.environ.get(HARDWARE):
        inventory.find_hw_uuid = lambda: os.environ[HARDWARE]
    if os.environ.get(WAIT):
        _wait_shorter(float(os.environ[WAIT]))
    supervision.GRACE = float(os.environ.get("HEAT_WORKFLOW_TEST_GRACE", supervision.GRACE))
    api_client.CONNECT_TIMEOUT, api_client.READ_MARGIN = 1.0, 1.0
    heartbeat.LEAST_INTERVAL = 0.3
    spool.SPACE_NEEDED = int(os.environ.get("HEAT_WORKFLOW_TEST_SPACE", spool.SPACE_NEEDED))
    shim._RETRY = 0.1


def without_started() -> None:
    """The negative control: nobody looks whether the hook was started."""
    prepare()
    Spool.was_started = lambda self, attempt: False  # type: ignore[method-assign]


def _fail_once(call: str, error: str, number: str, witness: str) -> None:
    """The so many-th such call on the disk fails, of all of the agent's processes; the file ``witness`` tells."""
    counter = mmap.mmap(-1, 8)
    real: Callable[..., Any] = getattr(os, call)

    def failing(*args: Any, **kwargs: Any) -> Any:
        if not _on_disk(call, args):
            return real(*args, **kwargs)
        (count,) = struct.unpack("q", counter[:8])
        counter[:8] = struct.pack("q", count + 1)
        if count + 1 == int(number) and not Path(witness).exists():
            os.mkdir(witness)
            code = getattr(errno, error)
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    setattr(os, call, failing)


def _on_disk(call: str, args: tuple[Any, ...]) -> bool:
    if call == "open":
        return bool(args[1] & os.O_CREAT)
    return call != "write" or stat.S_ISREG(os.fstat(args[0]).st_mode)


def _wait_shorter(seconds: float) -> None:
    """Claims wait for so long, whatever the API would allow."""
    begin = session.begin_session
    setattr(loop, "begin_session", lambda *args: dataclasses.replace(begin(*args), max_wait=seconds))  # noqa: B010


def _bend_clock(shift: Path) -> None:
    """The wall clock is off by the seconds in the file, which may change at any time."""
    real = time.time
    time.time = lambda: real() + float(shift.read_text())
