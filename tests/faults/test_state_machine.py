# SPDX-License-Identifier: Apache-2.0
"""F49: whatever operators, agents and fate do in whatever order, I1 to I8 hold and every move is in the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import counts
from tests.faults.machine import HURRY, Machine, World
from tests.harness.nursery import Nursery
from tests.harness.replicas import replicas


@pytest.mark.timeout(0)
def test_f49_i1_to_i8_hold_whatever_happens(kind: str, nursery: Nursery, tmp_path: Path, url: str) -> None:
    profile = settings(
        database=None,
        deadline=None,
        derandomize=counts.FACTOR == 1,  # the same runs at each commit; others every night
        max_examples=counts.F49_EXAMPLES[kind],
        stateful_step_count=counts.F49_STEPS,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        print_blob=True,
    )
    with replicas(nursery, tmp_path, url, 1, before=HURRY) as [api]:

        class Here(Machine):
            world = World(api, url)

        run_state_machine_as_test(Here, settings=profile)
