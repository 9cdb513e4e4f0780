# SPDX-License-Identifier: Apache-2.0
"""Rows about resources: every type of config and server, every property and attribute."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.heat_engine.parity.rows import Facts, Room, row

CONFIG = "#!/bin/sh\n"


def of(kind: str, **properties: Any) -> dict[str, Any]:
    return {"type": kind, "properties": properties}


def configs(room: Room) -> Facts:
    """Every kind of config that a task reads by id."""
    hot = room.hot
    script = CONFIG + "printf %s $deploy_action > $heat_outputs_path.said"
    entries = [{"tool": "script", "config": script, "actions": ["CREATE", "REBOOT"]}]
    noted = {"server": "nobody-is-there", "signal_transport": "NO_SIGNAL"}
    stack = room.stacks.create(
        "configs",
        hot.template(
            {"plain": {"get_attr": ["plain", "said"]}, "component": {"get_attr": ["component", "said"]}},
            software=of("OS::Heat::SoftwareConfig", group="script", config=script, outputs=[{"name": "said"}]),
            structured=of("OS::Heat::StructuredConfig", group="hiera", config={"a": {"b": 1}}),
            entries=of("OS::Heat::SoftwareComponent", configs=entries, outputs=[{"name": "said"}]),
            plain=hot.task("software"),
            mapped=hot.task("structured", **noted),
            component=hot.task("entries", actions=["DELETE"]),
        ),
    )
    return {"outputs": stack.outputs, "tasks": {task["name"]: task for task in room.tasks_of(stack)}, "stack": stack}


@row("resources", "OS::Heat::SoftwareConfig", "immutable; given by id; group defaults to Heat::Ungrouped")
def a_software_config_is_read_by_its_id(room: Room) -> None:
    assert room.facts_of(configs)["outputs"]["plain"] == "CREATE"


@row("resources", "OS::Heat::StructuredConfig", "the config is a map, and reaches the tool as one")
def a_structured_config_reaches_the_task_as_a_map(room: Room) -> None:
    assert room.facts_of(configs)["tasks"]["mapped"]["definition"]["config"] == {"a": {"b": 1}}


@row(
    "resources",
    "OS::Heat::SoftwareComponent",
    "the entry for the action runs, by the tool it names; actions may be any string; the property actions is ignored",
)
def a_component_runs_the_entry_for_the_action(room: Room) -> None:
    facts = room.facts_of(configs)
    assert facts["outputs"]["component"] == "CREATE"
    assert facts["tasks"]["component"]["definition"]["group"] == "script"


def servers(room: Room) -> Facts:
    """A Nova server booted with a multipart archive, and a server that Nova did not make."""
    hot = room.hot
    parts = [{"config": "#cloud-config\nruncmd: [ls]\n", "type": "text"}]
    usual = {"flavor": "m1.small", "image": "debian", "networks": [{"allocate_network": "none"}]}
    transport = {"software_config_transport": "POLL_TEMP_URL", "deployment_swift_data": {"container": "c"}}
    nova = of(
        "OS::HeatWorkflow::Server",
        user_data={"get_resource": "archive"},
        user_data_format="SOFTWARE_CONFIG",
        **usual,
        **transport,
    )
    source = hot.template(
        {"nova": {"get_attr": ["nova", "os_collect_config"]}, "who": {"get_attr": ["say", "deploy_stdout"]}},
        archive=of("OS::Heat::MultipartMime", parts=parts),
        nova=nova,
        say=hot.task(hot.script("echo $deploy_server_id"), server={"get_resource": "nova"}),
    )
    source["resources"]["machine"]["properties"] |= {**transport, "metadata": {"ignored": "yes"}}
    stack = room.stacks.create("servers", source)
    nova_id = stack.resource("nova").physical_resource_id
    kept = json.loads((room.cloud.directory / "nova" / f"{nova_id}.json").read_text())
    machine = stack.resource("machine")
    return {
        "outputs": stack.outputs,
        "nova_id": nova_id,
        "user_data": base64.b64decode(kept["user_data"]).decode(),
        "machine": machine.attributes,
        "machine_id": machine.physical_resource_id,
    }


@row("resources", "OS::Heat::MultipartMime", "is user_data of a server", "the agent's part comes before its parts")
def a_multipart_archive_boots_a_server_together_with_the_agent(room: Room) -> None:
    user_data = room.facts_of(servers)["user_data"]
    assert 0 < user_data.index("heat-workflow") < user_data.index("runcmd: [ls]")


@row(
    "resources",
    "OS::Nova::Server: user_data_format SOFTWARE_CONFIG",
    "prepares the image's os-collect-config; metadata holds its credentials",
    "puts the agent into user_data; os_collect_config is empty; software_config_transport and deployment_swift_data "
    "are accepted and unused",
)
def a_nova_server_runs_tasks(room: Room) -> None:
    facts = room.facts_of(servers)
    assert facts["outputs"] == {"nova": {}, "who": f"{facts['nova_id']}\n"}


@row(
    "resources",
    "OS::Nova::Server: other formats",
    "a deployment to it fails the validation, once the server is there",
    "fails the validation before anything is created",
)
def a_task_on_a_server_of_another_format_is_refused(room: Room) -> None:
    raw = of("OS::HeatWorkflow::Server", flavor="m1.small", image="debian", networks=[{"allocate_network": "none"}])
    source = room.hot.template(say=room.hot.task(room.hot.script("true")))
    source["resources"]["machine"] = raw
    refused(room, source, "SOFTWARE_CONFIG")


@row(
    "resources",
    "OS::Heat::DeployedServer",
    "properties name, metadata, software_config_transport, deployment_swift_data; attributes name, os_collect_config; "
    "its id is the resource's uuid",
    "os_collect_config is empty, no user is made in Keystone; agent_id and join are there besides",
)
def a_deployed_server_has_its_properties_and_attributes(room: Room) -> None:
    facts = room.facts_of(servers)
    assert facts["machine"]["name"] == "machine"
    assert facts["machine"]["os_collect_config"] == {}
    assert facts["machine"]["agent_id"] == facts["machine_id"]


def refused(room: Room, source: dict[str, Any], words: str) -> None:
    """The template is refused before anything is created, in these words."""
    with pytest.raises(Exception, match=words):
        room.stacks.create("refused", source)


@row(
    "resources",
    "An attribute that the config does not declare",
    "InvalidTemplateAttribute when it is read",
    "refused before anything is created",
)
def an_undeclared_output_is_refused(room: Room) -> None:
    say = room.hot.task(room.hot.script("true", "said"))
    refused(room, room.hot.template({"x": {"get_attr": ["say", "sad"]}}, say=say), "there is no output sad")


@row(
    "resources",
    "OS::Heat::SoftwareDeploymentGroup",
    "a nested stack with a deployment per server; attributes are maps by server name, plural names",
    "one resource; both the plural and the singular names are maps",
)
def a_group_gives_maps_by_server_name(room: Room) -> None:
    machines = dict.fromkeys(("a", "b"), room.hot.machine)
    say = of(
        "OS::HeatWorkflow::TaskGroup",
        servers={name: {"get_resource": name} for name in machines},
        definition=room.hot.script("echo hello; printf x > $heat_outputs_path.said", "said"),
    )
    outputs = {name: {"get_attr": ["say", name]} for name in ("deploy_stdouts", "deploy_status_codes", "said")}
    stack = room.stacks.create("group", room.hot.template(outputs, **machines, say=say))
    assert stack.outputs == {
        "deploy_stdouts": {"a": "hello\n", "b": "hello\n"},
        "deploy_status_codes": {"a": 0, "b": 0},
        "said": {"a": "x", "b": "x"},
    }


@row("resources", "OS::Heat::WaitCondition and its handles", "wait for signals", "stay Heat's own, untouched")
def a_wait_condition_stays_heats_own(room: Room) -> None:
    handle = of("OS::Heat::WaitConditionHandle", signal_transport="NO_SIGNAL")
    condition = of("OS::Heat::WaitCondition", handle={"get_resource": "handle"}, timeout=60, count=1)
    source = room.hot.template(handle=handle, condition=condition)
    stack = room.stacks.create("condition", source, wait=False)
    stack.wait_until(lambda: stack.resource("handle").resource_status == "CREATE_COMPLETE")
    room.stacks.heat.resources.signal(stack.id, "handle", data={"status": "SUCCESS", "id": "1", "data": "d"})
    stack.wait()
