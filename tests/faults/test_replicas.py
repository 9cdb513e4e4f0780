# SPDX-License-Identifier: Apache-2.0
"""F2: replicas are killed at random moments under load; what was acknowledged stays, nothing runs twice."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from tests.faults import counts
from tests.harness.history import History
from tests.harness.invariants import check
from tests.harness.kept import unfinished
from tests.harness.load import Load
from tests.harness.nemesis import Killer
from tests.harness.nursery import Nursery
from tests.harness.replicas import replicas

SABOTAGE = os.environ.get("HEAT_WORKFLOW_SABOTAGE")  # what to do to each replica first; the run must go red then


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_f2_random_replicas_are_killed_and_nothing_is_lost_or_done_twice(
    nursery: Nursery, url: str, tmp_path: Path, project: str, history: History
) -> None:
    with replicas(nursery, tmp_path, url, 3, before=SABOTAGE) as three:
        load = Load(history, [replica.url for replica in three], project, seed=2)
        killer = Killer(three, counts.F2_KILLS, seed=2, pause=(0.01, 0.04))
        load.begin(agents=8, operators=2)
        killer.start()
        killer.join(counts.F2_KILLS * 5 + 60)
        load.finish(functools.partial(unfinished, url, project))
        assert killer.error is None
        assert killer.kills == counts.F2_KILLS
    told = check(history, url, project)
    unanswered = sum(call.kind == "unknown" for call in told.calls)
    print(
        f"{killer.kills} kills: {len(load.workflows)} workflows, {len(told.starts)} hook starts, {len(told.calls)} "
        f"calls, {unanswered} of them unanswered; 0 lost, 0 double"
    )
    assert told.starts
