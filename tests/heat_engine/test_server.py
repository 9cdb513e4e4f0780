# SPDX-License-Identifier: Apache-2.0
"""OS::HeatWorkflow::Server in a real Heat, with a stand-in at Nova's HTTP API: which agent boots where, with what."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.stacks import Stack, Stacks
from heat_workflow import errors
from heat_workflow.client import Client


def server(**properties: Any) -> dict[str, Any]:
    usual = {"flavor": "m1.small", "image": "debian", "networks": [{"allocate_network": "none"}]}
    given = {**usual, "user_data_format": "SOFTWARE_CONFIG", **properties}
    return {"type": "OS::HeatWorkflow::Server", "properties": given}


def template(machine: dict[str, Any], hot: Any, **more: Any) -> dict[str, Any]:
    outputs = {"who": {"get_attr": ["say", "who"]}, "agent_id": {"get_attr": ["machine", "agent_id"]}}
    say = hot.task(hot.script("printf %s $deploy_server_id > $heat_outputs_path.who", "who"))
    made: dict[str, Any] = hot.template(outputs, say=say, **more)
    made["resources"]["machine"] = machine
    return made


def booted_with(cloud: DevCloud, server_id: str) -> str:
    """The user_data that Nova was given."""
    kept = json.loads((cloud.directory / "nova" / f"{server_id}.json").read_text())
    return base64.b64decode(kept["user_data"]).decode()


def agent_of(stack: Stack, api: Client) -> Any:
    return api.get_agent(stack.outputs["agent_id"])


def test_a_task_runs_on_a_server_that_nova_made_and_no_credential_of_keystone_is_in_it(
    hot: Any, stacks: Stacks, api: Client, cloud: DevCloud
) -> None:
    machine = server(user_data="#cloud-config\nruncmd: [ls]\n", software_config_transport="POLL_SERVER_HEAT")
    stack = stacks.create("nova", template(machine, hot))
    nova_id = stack.resource("machine").physical_resource_id
    agent = agent_of(stack, api)
    assert stack.outputs["who"] == nova_id
    assert agent["id"] != nova_id
    assert agent["server"] == nova_id
    assert agent["state"] == "active"
    user_data = booted_with(cloud, nova_id)
    assert user_data.index(agent["id"]) < user_data.index("runcmd")
    assert "password" not in user_data
    assert stack.resource("machine").attributes["os_collect_config"] == {}
    stack.delete()
    with pytest.raises(errors.NotFound):
        api.get_agent(agent["id"])
    assert not (cloud.directory / "nova" / f"{nova_id}.json").exists()


def test_a_rebuild_gives_the_new_disk_a_join_token_of_its_own(
    hot: Any, stacks: Stacks, api: Client, cloud: DevCloud
) -> None:
    stack = stacks.create("rebuilt", template(server(image_update_policy="REBUILD"), hot))
    nova_id = stack.resource("machine").physical_resource_id
    before, agent = booted_with(cloud, nova_id), agent_of(stack, api)
    stack.update(
        template(server(image_update_policy="REBUILD", image="debian-next"), hot, more=hot.task({"config": ""}))
    )
    assert stack.resource("machine").physical_resource_id == nova_id
    assert agent_of(stack, api)["id"] == agent["id"]
    after = booted_with(cloud, nova_id)
    assert after != before
    assert agent["id"] in after
    stack.wait_until(lambda: agent_of(stack, api)["state"] == "active")


def test_a_replaced_server_has_a_new_agent_and_its_tasks_run_there(hot: Any, stacks: Stacks, api: Client) -> None:
    stack = stacks.create("moved", template(server(), hot))
    first, first_agent = stack.outputs["who"], stack.outputs["agent_id"]
    stack.update(template(server(user_data="#!/bin/sh\ntrue\n"), hot))
    assert stack.outputs["who"] != first
    assert stack.outputs["agent_id"] != first_agent
    with pytest.raises(errors.NotFound):
        api.get_agent(first_agent)


def test_a_server_of_another_format_boots_without_an_agent(hot: Any, stacks: Stacks, cloud: DevCloud) -> None:
    alone = hot.template({"agent": {"get_attr": ["machine", "agent_id"]}})
    alone["resources"]["machine"] = server(user_data_format="RAW", user_data="#!/bin/sh\ntrue\n")
    stack = stacks.create("raw", alone)
    assert booted_with(cloud, stack.resource("machine").physical_resource_id) == "#!/bin/sh\ntrue\n"
    assert stack.outputs == {"agent": None}


@pytest.mark.parametrize(
    ("user_data", "words"),
    [('{"ignition": {"version": "3.4.0"}}', "Ignition"), ("x" * 60000, "more than Nova takes")],
)
def test_user_data_that_cannot_hold_the_agent_is_refused_before_anything_is_created(
    hot: Any, stacks: Stacks, user_data: str, words: str
) -> None:
    with pytest.raises(Exception, match=words):
        stacks.create("refused", template(server(user_data=user_data), hot))


def test_a_task_on_a_server_without_an_agent_is_refused(hot: Any, stacks: Stacks) -> None:
    with pytest.raises(Exception, match="user_data_format"):
        stacks.create("unheard", template(server(user_data_format="RAW"), hot))


def test_a_rebuilt_disk_is_empty_and_runs_what_comes_next(hot: Any, stacks: Stacks, tmp_path: pathlib.Path) -> None:
    policy = {"image_update_policy": "REBUILD"}
    stack = stacks.create("again", template(server(**policy), hot))
    after = hot.task(hot.script(f"touch {tmp_path}/ran"))
    after["depends_on"] = "machine"
    stack.update(template(server(image="debian-next", **policy), hot, after=after))
    assert (tmp_path / "ran").exists()
