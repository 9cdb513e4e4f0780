# SPDX-License-Identifier: Apache-2.0
"""Heat kill: ends heat-engine, as `kill -9` would, at the step of our resources that a test names."""

import functools
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heat_workflow.client import Client

ORDER_FILE = "heat-kill"


def order_kill(directory: Path, when: str, step: str) -> None:
    """End the cloud's Heat `before` or `after` the next step of that name: a method of Client, or `save_runs`."""
    fresh = directory / f"{ORDER_FILE}.new"
    fresh.write_text(f"{when} {step}")
    fresh.replace(directory / ORDER_FILE)


def obey_kills(directory: Path) -> None:
    """In heat-engine: look for an order at every step. An order is obeyed once."""
    order = directory / ORDER_FILE
    for name, method in list(vars(Client).items()):
        if callable(method) and not name.startswith("_"):
            setattr(Client, name, _watched(order, name, method))
    # By its name, and here: only heat-engine may load what loads Heat.
    lifecycle = importlib.import_module("heat_workflow.resources.lifecycle")
    setattr(lifecycle, "save_runs", _watched(order, "save_runs", lifecycle.save_runs))  # noqa: B010


def _watched(order: Path, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def watched(*args: Any, **kwargs: Any) -> Any:
        _die_if(order, f"before {name}")
        try:
            return step(*args, **kwargs)
        finally:
            _die_if(order, f"after {name}")

    return watched


def _die_if(order: Path, moment: str) -> None:
    try:
        if order.read_text() != moment:
            return
        order.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
