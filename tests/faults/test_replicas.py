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

WITHIN = counts.F2_KILLS * 4  # seconds; a machine that is too slow for all of the kills makes fewer
SABOTAGE = os.environ.get("HEAT_WORKFLOW_SABOTAGE")  # what to do to each replica first; the run must go red then


@pytest.mark.timeout(WITHIN + 300)
@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_f2_random_replicas_are_killed_and_nothing_is_lost_or_done_twice(
    nursery: Nursery, url: str, tmp_path: Path, project: str, history: History
) -> None:
    with replicas(nursery, tmp_path, url, 3, before=SABOTAGE) as three:
        load = Load(history, [replica.url for replica in three], project, seed=2)
        killer = Killer(three, counts.F2_KILLS, 2, (0.01, 0.04), lambda: history.answers, WITHIN)
        load.begin(agents=8, operators=2)
        killer.start()
        killer.join(WITHIN + 120)
        assert not killer.is_alive()
        if killer.error is not None:  # first: without that replica the callers' own complaints say nothing
            raise killer.error
        load.finish(functools.partial(unfinished, url, project))
        assert killer.kills
    told = check(history, url, project)
    unanswered = sum(call.kind == "unknown" for call in told.calls)
    print(
        f"{killer.kills} kills: {len(load.workflows)} workflows, {len(told.starts)} hook starts, {len(told.calls)} "
        f"calls, {unanswered} of them unanswered; 0 lost, 0 double"
    )
    assert told.starts
