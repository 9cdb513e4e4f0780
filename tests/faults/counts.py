# SPDX-License-Identifier: Apache-2.0
"""Counts: how often each fault is made to happen. ``HEAT_WORKFLOW_FAULTS=10`` for a nightly run makes it ten times."""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("HEAT_WORKFLOW_FAULTS", "1"))


def _times(count: int) -> int:
    return max(1, round(count * FACTOR))


F1_SQLITE = 5  # kills at each failpoint
F1_SERVERS = 1
F2_KILLS = int(os.environ.get("HEAT_WORKFLOW_KILLS", _times(40)))
F3_ROUNDS = _times(10)  # each of five verbs, cut at each of four places
F4_CUTS = _times(200)
F5_ROUNDS = _times(4)
F7_ROUNDS = _times(3)
F8_LEASES = [1, 2, 10]
F6_PEERS = _times(50)
F8_ROUNDS = _times(10)
F9_ROUNDS = _times(2)
F10_KILLS = int(os.environ.get("HEAT_WORKFLOW_AGENT_FAILPOINT_KILLS", "5"))  # at each failpoint of the agent
AGENT_KILLS = int(os.environ.get("HEAT_WORKFLOW_AGENT_KILLS", _times(60)))
F32_COPIES = _times(1)
F34_ROUNDS = _times(6)
F35_ROTATIONS = _times(20)
F11_KILLS = _times(3)
F12_CUTS = _times(8)
F20_KILLS = _times(3)
F21_ROUNDS = _times(1)
F22_MEGABYTES = int(os.environ.get("HEAT_WORKFLOW_OUTPUT_MB", "200"))
F18_EVERY = max(1, round(3 / FACTOR))  # of all calls that reach the guest's disk, this one fails
F18_FIRST = int(os.environ.get("HEAT_WORKFLOW_F18_FIRST", "1"))
F25_ROUNDS = _times(20)
F26_KILLS = _times(3)
F27_CUTS = _times(60)
F28_REWINDS = _times(5)
F37_TASKS = {"sqlite": _times(2) * 500, "postgresql": _times(1) * 500}
F37_POLLERS = {"sqlite": _times(100), "postgresql": _times(50)}
F38_PEERS = _times(300)
F39_DELIVERIES = _times(50)
F41_MOMENTS = ("before", "after") if FACTOR > 1 else ("after",)  # of every step, at which heat-engine is killed
F41_EVERY = 1 if FACTOR > 1 else 5  # of all those, every fifth
F43_RACES = {"sqlite": _times(60), "postgresql": _times(60), "mariadb": _times(30)}
F44_RACES = {"sqlite": _times(40), "postgresql": _times(40), "mariadb": _times(20)}
F45_CUTS = _times(3)
F47_SECONDS = 4 * FACTOR
F49_EXAMPLES = {"sqlite": _times(30), "postgresql": _times(8), "mariadb": _times(8)}
F49_STEPS = 40
F49_WALKS = _times(100)
S42_READS = _times(3000)
Q16_EXAMPLES = {"sqlite": _times(60), "postgresql": _times(20), "mariadb": _times(15)}
