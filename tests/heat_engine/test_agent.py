# SPDX-License-Identifier: Apache-2.0
"""OS::HeatWorkflow::DeployedServer and Agent in a real Heat: registration, join data, grants, revocation."""

from __future__ import annotations

from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.stacks import Stacks
from heat_workflow import errors
from heat_workflow.client import Client


def template(**resources: Any) -> dict[str, Any]:
    return {
        "heat_template_version": "2021-04-16",
        "resources": resources,
        "outputs": {name: {"value": {"get_resource": name}} for name in resources},
    }


def server(**properties: Any) -> dict[str, Any]:
    return {"type": "OS::HeatWorkflow::DeployedServer", "properties": properties}


def agent(**properties: Any) -> dict[str, Any]:
    return {"type": "OS::HeatWorkflow::Agent", "properties": properties}


def test_a_server_is_registered_under_its_own_id(stacks: Stacks, api: Client) -> None:
    stack = stacks.create("server", template(machine=server(name="red", capabilities=["builds"])))
    shown = stack.resource("machine")
    registered = api.get_agent(shown.physical_resource_id)
    assert registered["name"] == "red"
    assert registered["server"] == shown.physical_resource_id
    assert registered["capabilities"] == sorted(["builds", f"server={shown.physical_resource_id}"])
    assert registered["heat"] == registered["heat"] | {"stack_id": stack.id, "resource": "machine"}  # type: ignore[operator]
    assert shown.attributes["name"] == "red"
    assert shown.attributes["agent_id"] == shown.physical_resource_id
    assert shown.attributes["os_collect_config"] == {}


def test_join_data_is_shown_until_it_was_used(stacks: Stacks, api: Client, cloud: DevCloud) -> None:
    stack = stacks.create("join", template(machine=server()), wait=True)
    agent_id = stack.resource("machine").physical_resource_id
    stack.wait_until(lambda: api.get_agent(agent_id)["state"] == "active")
    assert stack.resource("machine").attributes["join"] is None


def test_an_agent_of_its_own_is_its_own_server(stacks: Stacks, api: Client) -> None:
    stack = stacks.create("agent", template(helper=agent(name="helper")))
    agent_id = stack.resource("helper").physical_resource_id
    assert stack.outputs["helper"] == agent_id
    assert api.get_agent(agent_id)["capabilities"] == [f"server={agent_id}"]


def test_an_agent_for_a_server_that_exists_goes_by_that_servers_id(stacks: Stacks, api: Client) -> None:
    stack = stacks.create("bound", template(helper=agent(server="nova-1234")))
    assert stack.outputs["helper"] == "nova-1234"
    assert api.get_agent(stack.resource("helper").physical_resource_id)["capabilities"] == ["server=nova-1234"]


def test_an_update_grants_and_renames_in_place(stacks: Stacks, api: Client) -> None:
    stack = stacks.create("grant", template(machine=server(name="red")))
    agent_id = stack.resource("machine").physical_resource_id
    stack.update(template(machine=server(name="blue", capabilities=["builds"])))
    assert stack.resource("machine").physical_resource_id == agent_id
    assert api.get_agent(agent_id)["name"] == "blue"
    assert "builds" in api.get_agent(agent_id)["capabilities"]


def test_delete_revokes(stacks: Stacks, api: Client) -> None:
    stack = stacks.create("revoked", template(machine=server()))
    agent_id = stack.resource("machine").physical_resource_id
    stack.delete()
    with pytest.raises(errors.NotFound):
        api.get_agent(agent_id)


def test_delete_is_content_with_an_agent_that_is_gone_already(stacks: Stacks, api: Client) -> None:
    stack = stacks.create("twice", template(machine=server()))
    api.delete_agent(stack.resource("machine").physical_resource_id)
    stack.delete()


def test_a_server_makes_no_credentials_in_keystone(stacks: Stacks) -> None:
    wanted = server(software_config_transport="POLL_SERVER_HEAT", metadata={"a": "b"})
    stack = stacks.create("bare", template(machine=wanted))
    (data,) = (stacks.heat.resources.metadata(stack.id, "machine"),)
    assert data == {}
