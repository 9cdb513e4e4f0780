# SPDX-License-Identifier: Apache-2.0
"""The checker itself: with the fence taken out of the API it sees what goes wrong, with the fence it sees nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.harness.history import History, Told
from tests.harness.invariants import violated
from tests.harness.kept import Kept
from tests.harness.nursery import Nursery
from tests.harness.recorded import RecordedAgent, RecordedOperator
from tests.harness.replicas import replicas

TASKS = 25


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
@pytest.mark.parametrize("fenced", [True, False], ids=["with the fence", "without the fence"])
def test_i4_i6_two_outcomes_of_one_attempt_are_seen(
    fenced: bool, nursery: Nursery, tmp_path: Path, url: str, project: str, history: History
) -> None:
    before = None if fenced else "tests.faults.sabotage:without_fence"
    with replicas(nursery, tmp_path, url, 2, before=before) as [one, two]:
        operator = RecordedOperator(history, [one.url], project)
        agent = operator.agent(server="s")
        other = RecordedAgent(RecordedOperator(history, [two.url], project), agent.agent_id, "")
        other.secret = agent.secret
        workflow_id = operator.workflow()
        for n in range(TASKS):
            operator.task(workflow_id, f"t{n}", server="s")
            taken = agent.take()
            agent.start(taken)
            _report_twice(agent, other, taken)
    found = list(violated(Told(history), Kept(url, project), over=True))
    twice = [violation for violation in found if violation.startswith("I4") and "end 2 times" in violation]
    lost = [violation for violation in found if violation.startswith("I6")]
    print(f"of {TASKS} attempts reported twice, {len(twice)} ended twice and {len(lost)} lost an acknowledged report")
    assert bool(twice) is bool(lost) is bool(found) is not fenced, found


def _report_twice(agent: RecordedAgent, other: RecordedAgent, task: dict[str, Any]) -> None:
    """Two different reports of one attempt at the same moment, at two replicas."""
    rival = threading.Thread(target=other.report, args=(task,))
    rival.start()
    agent.report(task)
    rival.join(60)
