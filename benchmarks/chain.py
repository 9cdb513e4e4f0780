# SPDX-License-Identifier: Apache-2.0
"""Chain: twenty dependent Task resources against the same chain of OS::Heat::Value, side by side in one devcloud."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show
from devcloud.cloud import DevCloud
from devcloud.stacks import Stacks

LENGTH = 20
ROUNDS = 5
GOAL = 1.3
_VERSION = "2021-04-16"

BASE: dict[str, Any] = {
    "heat_template_version": _VERSION,
    "resources": {
        "server": {"type": "OS::HeatWorkflow::DeployedServer", "properties": {"name": "chain"}},
        "step": {
            "type": "OS::Heat::SoftwareConfig",
            "properties": {
                "group": "script",
                "inputs": [{"name": "counted", "type": "Number"}],
                "outputs": [{"name": "count"}],
                "config": '#!/bin/sh\nprintf %s "$((counted + 1))" > "$heat_outputs_path.count"\n',
            },
        },
        # makes sure that the agent is up before the first round
        "warm": {
            "type": "OS::HeatWorkflow::Task",
            "properties": {
                "config": {"get_resource": "step"},
                "server": {"get_resource": "server"},
                "input_values": {"counted": 0},
            },
        },
    },
    "outputs": {"server": {"value": {"get_resource": "server"}}, "config": {"value": {"get_resource": "step"}}},
}


def tasks(server: str, config: str) -> dict[str, Any]:
    """A chain in which each task adds one to the output of the one before."""
    resources = {}
    for number in range(LENGTH):
        counted: Any = {"get_attr": [f"step_{number - 1}", "count"]} if number else 0
        properties = {"config": config, "server": server, "input_values": {"counted": counted}}
        resources[f"step_{number}"] = {"type": "OS::HeatWorkflow::Task", "properties": properties}
    return {"heat_template_version": _VERSION, "resources": resources}


def values() -> dict[str, Any]:
    """The same chain with nothing to do: Heat's own floor."""
    resources = {}
    for number in range(LENGTH):
        value: Any = {"get_attr": [f"step_{number - 1}", "value"]} if number else "0"
        resources[f"step_{number}"] = {"type": "OS::Heat::Value", "properties": {"value": value}}
    return {"heat_template_version": _VERSION, "resources": resources}


def timed(stacks: Stacks, template: dict[str, Any]) -> float:
    """Seconds from the request to CREATE_COMPLETE."""
    started = time.monotonic()
    stack = stacks.create("chain", template)
    seconds = time.monotonic() - started
    stack.delete()
    return seconds


def run() -> None:
    with tempfile.TemporaryDirectory() as directory, DevCloud(Path(directory)) as cloud:
        stacks = Stacks(cloud.session())
        base = stacks.create("base", BASE).outputs
        ours, heats = [], []
        for _ in range(ROUNDS):
            heats.append(timed(stacks, values()))
            ours.append(timed(stacks, tasks(base["server"], base["config"])))
        stacks.delete_all()
    ratios = [mine / theirs for mine, theirs in zip(ours, heats)]
    show(
        f"A chain of {LENGTH} dependent resources, {ROUNDS} rounds each in turn",
        [
            Row("OS::Heat::Value", statistics.median(heats), "s"),
            Row("OS::HeatWorkflow::Task with a real agent", statistics.median(ours), "s"),
            Row("ratio, median of the pairs", statistics.median(ratios), "", GOAL),
        ],
    )
