# SPDX-License-Identifier: Apache-2.0
"""The user_data of OS::HeatWorkflow::Agent in a real Heat: what boots a machine as that agent, always the same text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client

AGENT = {"type": "OS::HeatWorkflow::Agent", "properties": {"name": "guest"}}
# In place of a server: a property that is compared at every update.
SERVER = {"type": "OS::Heat::Value", "properties": {"value": {"get_attr": ["agent", "user_data"]}}}


def template(**more: Any) -> dict[str, Any]:
    return {
        "heat_template_version": "2021-04-16",
        "resources": {"agent": AGENT, "server": SERVER, **more},
        "outputs": {
            "user_data": {"value": {"get_attr": ["server", "value"]}},
            "join": {"value": {"get_attr": ["agent", "join"]}},
        },
    }


def order_of(user_data: str) -> dict[str, Any]:
    """What the program in it is told on its standard input."""
    order: dict[str, Any] = json.loads(user_data.splitlines()[-2])
    return order


def await_joined(stack: Stack, api: Client) -> None:
    agent_id = stack.resource("agent").physical_resource_id
    stack.wait_until(lambda: api.get_agent(agent_id)["state"] == "active")


def test_it_holds_the_join_data_and_the_digest_of_the_current_release(stacks: Stacks, cloud: DevCloud) -> None:
    stack = stacks.create("boots", template())
    order = order_of(stack.outputs["user_data"])
    assert order["agent"]["agent_id"] == stack.resource("agent").physical_resource_id
    assert order["agent"]["api_url"] == cloud.api_url
    assert order["agent"]["ca_pem"] == cloud.api_ca_file.read_text()
    assert order["agent"]["join_token"].startswith("hwj1.")
    assert order["plan"]["sha256"] == cloud.releases.find_current()


def test_it_stays_the_same_when_the_token_was_used_so_that_no_update_replaces_the_server(
    stacks: Stacks, api: Client
) -> None:
    stack = stacks.create("stays", template())
    before, value = stack.outputs["user_data"], stack.resource("server").physical_resource_id
    await_joined(stack, api)
    assert stack.outputs["join"] is None
    assert stack.resource("agent", "user_data").attributes["user_data"] == before
    stack.update(template(more={"type": "OS::Heat::Value", "properties": {"value": "new"}}))
    assert stack.outputs["user_data"] == before
    assert stack.resource("server").physical_resource_id == value


def test_it_stays_the_same_when_there_is_a_newer_release(stacks: Stacks, cloud: DevCloud) -> None:
    stack = stacks.create("release", template())
    before, current = stack.outputs["user_data"], cloud.releases.find_current()
    assert current is not None
    cloud.releases.add(b"a newer agent")
    try:
        stack.update(template(more={"type": "OS::Heat::Value", "properties": {"value": "new"}}))
        assert stack.outputs["user_data"] == before
    finally:
        cloud.releases.make_current(current)


def test_without_a_release_the_stack_fails_in_words_and_an_update_mends_it(
    stacks: Stacks, cloud: DevCloud, api: Client
) -> None:
    current = cloud.releases.directory / "current"
    chosen = current.read_text()
    current.unlink()
    try:
        stack = stacks.create("no-release", template(), wait=False)
        with pytest.raises(DevCloudError, match="heat-workflow-manage agent build"):
            stack.wait()
    finally:
        current.write_text(chosen)
    await_joined(stack, api)  # the devcloud's own agent did, with the join data; now it is new again
    api.rejoin_agent(stack.resource("agent").physical_resource_id)
    stack.update(template())
    assert order_of(stack.outputs["user_data"])["plan"]["sha256"] == chosen.strip()
