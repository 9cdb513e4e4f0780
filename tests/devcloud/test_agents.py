# SPDX-License-Identifier: Apache-2.0
"""Agents: every server that a stack makes gets an agent process, which ends when the server is gone."""

import configparser
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.settings import DevCloudError
from devcloud.stacks import Stacks

GREETING = "#!/bin/sh\nprintf hello > ${heat_outputs_path}.word\n"


def server(name: str) -> dict[str, Any]:
    return {"type": "OS::HeatWorkflow::DeployedServer", "properties": {"name": name}}


def one_server(name: str) -> dict[str, Any]:
    return {"heat_template_version": "wallaby", "resources": {"server": server(name)}}


def server_with_task(name: str) -> dict[str, Any]:
    definition = {"group": "script", "config": GREETING, "outputs": [{"name": "word"}]}
    task = {"config": {"get_resource": "greeting"}, "server": {"get_resource": "server"}}
    return {
        "heat_template_version": "wallaby",
        "resources": {
            "server": server(name),
            "greeting": {"type": "OS::Heat::SoftwareConfig", "properties": definition},
            "greet": {"type": "OS::HeatWorkflow::Task", "properties": task},
        },
        "outputs": {"word": {"value": {"get_attr": ["greet", "word"]}}},
    }


def await_that(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(cloud: DevCloud, name: str) -> list[str]:
    agents = cloud.session().get(f"{cloud.api_url}/v1/agents").json()["agents"]
    return [agent["state"] for agent in agents if agent["name"] == name and agent["state"] != "revoked"]


def active(cloud: DevCloud) -> set[str]:
    agents = cloud.session().get(f"{cloud.api_url}/v1/agents?state=active").json()["agents"]
    return {agent["name"] for agent in agents}


def find_pid(cloud: DevCloud, name: str) -> int | None:
    try:
        return cloud.agents.process(name).pid
    except DevCloudError:
        return None


def test_a_server_gets_an_agent_that_ends_with_it(cloud: DevCloud, stacks: Stacks) -> None:
    stack = stacks.create("machine", one_server("lone"))
    await_that(lambda: states(cloud, "lone") == ["active"])
    process = cloud.agents.process("lone")
    assert process.is_alive
    agent_id = stack.resource("server").physical_resource_id
    assert cloud.agents.process(agent_id).pid == process.pid
    conf_file = cloud.directory / "agents" / agent_id / "agent.conf"
    assert oct(os.stat(conf_file).st_mode & 0o777) == "0o600"
    conf = configparser.RawConfigParser()
    conf.read(conf_file)
    assert conf["agent"]["ca_pem"].strip() == cloud.api_ca_file.read_text().strip()
    stack.delete()
    await_that(lambda: find_pid(cloud, "lone") is None)
    assert not Path(f"/proc/{process.pid}").exists()
    with pytest.raises(DevCloudError, match="no agent of a server named lone"):
        cloud.agents.process("lone")


def test_a_task_runs_on_a_server_of_another_project(cloud: DevCloud) -> None:
    person = cloud.create_person("neighbour", ["member", "heat_stack_owner"])
    stacks = Stacks(person.session)
    try:
        assert stacks.create("theirs", server_with_task("theirs")).outputs == {"word": "hello"}
    finally:
        stacks.delete_all()


def test_a_stopped_agent_stays_down_until_it_is_started(cloud: DevCloud, stacks: Stacks) -> None:
    stacks.create("first", one_server("sleeper"))
    await_that(lambda: states(cloud, "sleeper") == ["active"])
    process = cloud.agents.process("sleeper")
    process.kill()
    # Another server comes up meanwhile, so the watch has looked at both.
    stacks.create("second", one_server("waker"))
    await_that(lambda: states(cloud, "waker") == ["active"])
    assert not process.is_alive
    process.start()
    assert process.is_alive
    assert cloud.agents.process("sleeper") is process


def test_servers_are_served_after_the_api_was_killed(cloud: DevCloud, stacks: Stacks) -> None:
    stacks.create("before", one_server("survivor"))
    await_that(lambda: states(cloud, "survivor") == ["active"])
    cloud.api.kill()
    cloud.api.start()
    assert stacks.create("after", server_with_task("newcomer")).outputs == {"word": "hello"}
    assert cloud.agents.process("survivor").is_alive


def test_thirty_servers_get_their_agents(cloud: DevCloud, stacks: Stacks) -> None:
    # Each requires the one before: Heat sleeps a second per server that requires nothing.
    resources = {f"s{n}": {**server(f"fleet-{n}"), "depends_on": [f"s{n - 1}"] if n else []} for n in range(30)}
    stacks.create("fleet", {"heat_template_version": "wallaby", "resources": resources})
    names = {f"fleet-{n}" for n in range(30)}
    await_that(lambda: names <= active(cloud), 60)  # machines boot in any order
