# SPDX-License-Identifier: Apache-2.0
"""Heat kill: ends heat-engine, as `kill -9` would, at the step of our resources that a test names."""

import contextlib
import functools
import importlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from devcloud.processes import Process
from heat_workflow.client import Client

ORDER_FILE = "heat-kill"
TRACE_FILE = "heat-steps"
RECORDERS = ("lifecycle", "turns")  # the modules of resources that write down what they are about to add


def order_kill(directory: Path, when: str, step: str) -> None:
    """End the cloud's Heat `before` or `after` the next step of that name: a method of Client, or `save_runs`."""
    fresh = directory / f"{ORDER_FILE}.new"
    fresh.write_text(f"{when} {step}")
    fresh.replace(directory / ORDER_FILE)


@contextlib.contextmanager
def killed(heat: Process, directory: Path, when: str, step: str) -> Iterator[None]:
    """For the time of the block: whoever comes to the step dies. After it there is no order, and Heat is alive."""
    order_kill(directory, when, step)
    try:
        yield
    finally:
        (directory / ORDER_FILE).unlink(missing_ok=True)
        if not heat.is_alive:
            heat.start()


@contextlib.contextmanager
def traced(directory: Path) -> Iterator[Callable[[], set[str]]]:
    """Gives what the names of the steps are that the cloud's Heat came to since, also before it was killed."""
    trace = directory / TRACE_FILE
    trace.touch()
    try:
        yield lambda: set(trace.read_text().split())
    finally:
        trace.unlink()


def obey_kills(directory: Path) -> None:
    """In heat-engine: look for an order at every step. An order is obeyed once."""
    for name, method in list(vars(Client).items()):
        if callable(method) and not name.startswith("_"):
            setattr(Client, name, _watched(directory, name, method))
    # By their names, and here: only heat-engine may load what loads Heat.
    for name in RECORDERS:
        module = importlib.import_module(f"heat_workflow.resources.{name}")
        setattr(module, "save_runs", _watched(directory, "save_runs", module.save_runs))  # noqa: B010


def _watched(directory: Path, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def watched(*args: Any, **kwargs: Any) -> Any:
        _note(directory / TRACE_FILE, name)
        _die_if(directory / ORDER_FILE, f"before {name}")
        try:
            return step(*args, **kwargs)
        finally:
            _die_if(directory / ORDER_FILE, f"after {name}")

    return watched


def _note(trace: Path, name: str) -> None:
    if trace.exists():
        with trace.open("a") as lines:
            lines.write(f"{name}\n")


def _die_if(order: Path, moment: str) -> None:
    try:
        if order.read_text() != moment:
            return
        order.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
