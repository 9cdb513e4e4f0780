# SPDX-License-Identifier: Apache-2.0
"""How a failed task is told in Heat: the agent's line, and nothing twice."""

from __future__ import annotations

import pytest

from heat_workflow.resources.reasons import how_it_failed


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (3, "exit code 3: no space", "failed with exit code 3: no space"),
        (137, "exit code 137 (killed by SIGKILL): why", "failed with exit code 137 (killed by SIGKILL): why"),
        (127, "not started: no ruby", "failed with exit code 127: not started: no ruby"),
        (3, "why : disk; exit code 3: no space", "failed: why : disk; exit code 3: no space"),
        (0, "why : disk", "failed: why : disk"),
        (None, "not started: input big is too large", "failed: not started: input big is too large"),
    ],
)
def test_a_failed_task_is_told_in_the_words_of_its_agent(code: int | None, reason: str, told: str) -> None:
    assert how_it_failed({"state": "failed", "deploy_status_code": code, "status_reason": reason}) == told
