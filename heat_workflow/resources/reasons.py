# SPDX-License-Identifier: Apache-2.0
"""Reasons: in what way a task failed, in the words that Heat shows."""

from __future__ import annotations

from heat_workflow import errors
from heat_workflow.shapes import Task


def how_it_failed(task: Task) -> str:
    """``failed with exit code 3: why``: the reason of the agent, which has the exit code in it if a hook ended."""
    code, reason = task.get("deploy_status_code"), task["status_reason"]
    if code and reason.startswith(f"exit code {code}"):
        return f"failed with {reason}"
    return (
        f"failed: {reason}" if not code or f"exit code {code}" in reason else f"failed with exit code {code}: {reason}"
    )


def lines_of(text: str | None) -> list[str]:
    """The lines of a stream that hold something, as a message may hold them."""
    return [errors.printable(line.strip()) for line in (text or "").splitlines() if line.strip()]
