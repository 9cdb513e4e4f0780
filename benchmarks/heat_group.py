# SPDX-License-Identifier: Apache-2.0
"""Heat group: many servers and many tasks by one resource, beside what Heat needs for the same, in one devcloud."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.chain import BASE
from benchmarks.chain import tasks as task_chain
from benchmarks.members import Members
from benchmarks.table import Row, show
from devcloud.cloud import DevCloud
from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client

SERVERS = 30
SIMULATED = 200
LENGTH = 20
TASKS = 50
ROUNDS = 5
GOAL_OF_HEAT, GOAL_SIMULATED = 0.1, 5.0
_VERSION = "2021-04-16"
TRUE = {"group": "script", "config": "#!/bin/sh\ntrue\n", "outputs": [{"name": "count"}]}


def template(**resources: Any) -> dict[str, Any]:
    return {"heat_template_version": _VERSION, "resources": resources}


def group(kind: str, servers: dict[str, str], **properties: Any) -> dict[str, Any]:
    """A group of that type, with a config of its own."""
    config = {"type": "OS::Heat::SoftwareConfig", "properties": {"group": "script", "config": TRUE["config"]}}
    own = {"config": {"get_resource": "config"}, "servers": servers, **properties}
    return template(config=config, group={"type": kind, "properties": own})


def workflow(server: str, count: int, changed: str = "") -> dict[str, Any]:
    """Independent tasks in one workflow; the text of the last one may change."""
    tasks = {f"t{n}": {"definition": TRUE, "server": server} for n in range(count)}
    tasks[f"t{count - 1}"] = {"definition": {**TRUE, "config": f"{TRUE['config']}# {changed}\n"}, "server": server}
    return template(flow={"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks}})


def value(changed: str) -> dict[str, Any]:
    return template(flow={"type": "OS::Heat::Value", "properties": {"value": changed}})


def chained(server: str) -> dict[str, Any]:
    """A chain of tasks in one workflow, each adding one to the output of the one before."""
    step = BASE["resources"]["step"]["properties"]
    tasks = {
        f"step_{n}": {
            "definition": step,
            "server": server,
            "input_values": {"counted": {"get_output": [f"step_{n - 1}", "count"]} if n else 0},
        }
        for n in range(LENGTH)
    }
    return template(flow={"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": tasks}})


@contextlib.contextmanager
def created(stacks: Stacks, source: dict[str, Any]) -> Iterator[tuple[Stack, float]]:
    """The stack and the seconds from the request to CREATE_COMPLETE; it is deleted afterwards."""
    started = time.monotonic()
    stack = stacks.create("bench", source)
    yield stack, time.monotonic() - started
    stack.delete()


def updated(stack: Stack, source: dict[str, Any]) -> float:
    """The seconds from the request to UPDATE_COMPLETE."""
    started = time.monotonic()
    stack.update(source)
    return time.monotonic() - started


def seconds(stacks: Stacks, source: dict[str, Any]) -> float:
    with created(stacks, source) as (_, took):
        return took


def median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(ROUNDS))


def many_servers(stacks: Stacks) -> list[Row]:
    """One config on so many servers: Heat's group without an agent against ours with a real one on each."""
    machine = "OS::HeatWorkflow::DeployedServer"
    source = template(**{f"s{n}": {"type": machine, "properties": {"name": f"s{n}"}} for n in range(SERVERS)})
    source["outputs"] = {f"s{n}": {"value": {"get_resource": f"s{n}"}} for n in range(SERVERS)}
    fleet = stacks.create("fleet", source, timeout_mins=10)
    servers = fleet.outputs
    # The first round waits until all agents are up, so it is not measured.
    seconds(stacks, group("OS::HeatWorkflow::TaskGroup", servers))
    ours = median(lambda: seconds(stacks, group("OS::HeatWorkflow::TaskGroup", servers)))
    heats = seconds(stacks, group("OS::Heat::SoftwareDeploymentGroup", servers, signal_transport="NO_SIGNAL"))
    fleet.delete()
    return [
        Row(f"SoftwareDeploymentGroup, NO_SIGNAL, {SERVERS} servers", heats, "s"),
        Row(f"TaskGroup, {SERVERS} real agents", ours, "s"),
        Row("ratio", ours / heats, "", GOAL_OF_HEAT),
    ]


def simulated_servers(stacks: Stacks, cloud: DevCloud) -> list[Row]:
    """The same with agents that cost this machine next to nothing."""
    with Members(Client(cloud.session()), cloud.api_url, str(cloud.api_ca_file), SIMULATED) as members:
        ours = median(lambda: seconds(stacks, group("OS::HeatWorkflow::TaskGroup", members.servers)))
    return [Row(f"TaskGroup, {SIMULATED} simulated agents", ours, "s", GOAL_SIMULATED)]


def one_workflow(stacks: Stacks, server: str, config: str) -> list[Row]:
    """A chain in one resource against a chain of resources."""
    ours = median(lambda: seconds(stacks, chained(server)))
    theirs = median(lambda: seconds(stacks, task_chain(server, config)))
    return [
        Row(f"chain of {LENGTH} in one Workflow", ours, "s"),
        Row(f"chain of {LENGTH} Task resources", theirs, "s"),
        Row("ratio", ours / theirs, ""),
    ]


def one_of_many(stacks: Stacks, server: str, api: Client) -> list[Row]:
    """An update that changes one task of many runs one, and takes no longer than creating one.

    Beside it what Heat takes for an update of the same shape in which nothing has to be done. All in turn, for the
    machine is not the same from one second to the next.
    """
    alone, ours, heats = [], [], []
    with created(stacks, workflow(server, TASKS)) as (many, whole), created(stacks, value("")) as (plain, _):
        for n in range(ROUNDS):
            alone.append(seconds(stacks, workflow(server, 1)))
            ours.append(updated(many, workflow(server, TASKS, f"change {n}")))
            heats.append(updated(plain, value(f"change {n}")))
        ran = len(list(api.list_tasks(many.resource("flow").physical_resource_id))) - TASKS
    create, update, nothing = (statistics.median(each) for each in (alone, ours, heats))
    return [
        Row(f"{TASKS} tasks created", whole, "s"),
        Row("1 task created", create, "s"),
        Row("an OS::Heat::Value changed", nothing, "s"),
        Row(f"1 of {TASKS} tasks changed", update, "s", create, note=f"{update - nothing:.2f} s more than the Value"),
        Row("tasks that a change ran", ran / ROUNDS, "", 1),
    ]


def run() -> None:
    with tempfile.TemporaryDirectory() as directory, DevCloud(Path(directory)) as cloud:
        stacks = Stacks(cloud.session())
        base = stacks.create("base", BASE).outputs
        rows = [
            *many_servers(stacks),
            *simulated_servers(stacks, cloud),
            *one_workflow(stacks, base["server"], base["config"]),
            *one_of_many(stacks, base["server"], Client(cloud.session())),
        ]
        stacks.delete_all()
    show("Many servers, many tasks, one resource", rows)
