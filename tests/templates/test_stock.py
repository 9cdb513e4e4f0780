# SPDX-License-Identifier: Apache-2.0
"""Templates written for Nova servers and Heat's own deployments, run unchanged with the drop-in environment."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import yaml

from devcloud.cloud import DevCloud
from devcloud.stacks import Stack, Stacks
from heat_workflow.client import Client
from heat_workflow.shapes import Task
from tests.harness.old_guests import OldGuests

ROOT = pathlib.Path(__file__).parents[2]
STOCK = pathlib.Path(__file__).parent / "stock"
DROP_IN = ROOT / "templates" / "environments" / "drop-in.yaml"

# A hook of heat-config, as images bring them: JSON in, JSON out.
JSON_HOOK = """\
#!/usr/bin/python3
import json, sys
config = json.load(sys.stdin)["config"]
assert config["list"][1] == config["message"], config
json.dump({"said": config["message"] + " in a map", "deploy_status_code": 0}, sys.stdout)
"""


def test_every_kind_of_config_runs_on_nova_servers(stacks: Stacks, cloud: DevCloud, api: Client) -> None:
    hook = cloud.directory / "hooks" / "stock-json"
    hook.parent.mkdir(mode=0o755, exist_ok=True)
    hook.write_text(JSON_HOOK)
    hook.chmod(0o755)
    stack = stacks.create("every", STOCK / "every_group.yaml", environment=DROP_IN)
    assert stack.outputs == {
        "puppet": "hello from a script and a playbook and a manifest",
        "structured": "hello in a map",
        "component": "created with hello",
        "group": {"web0": "hello from a script", "web1": "hello from a script"},
        "codes": {"web0": 0, "web1": 0},
    }
    ids = {name: stack.resource(name).physical_resource_id for name in ("web0", "web1", "by_script")}
    stack.update(STOCK / "every_group.yaml", environment=DROP_IN, parameters={"greeting": "bye"})
    assert stack.outputs["component"] == "updated to bye"
    assert stack.outputs["puppet"] == "bye from a script and a playbook and a manifest"
    assert ids == {name: stack.resource(name).physical_resource_id for name in ids}
    assert {agent["server"] for agent in api.list_agents(server=ids["web0"])} == {ids["web0"]}


def test_a_running_stack_moves_to_tasks_and_every_server_keeps_its_id(
    stacks: Stacks, api: Client, tasks_of: Callable[[Stack], list[Task]], tmp_path: pathlib.Path
) -> None:
    servers: list[str] = []
    with OldGuests(stacks.heat, servers, tmp_path) as old:
        stock = yaml.safe_load((STOCK / "running.yaml").read_text())
        stack = stacks.create("running", stock, wait=False)
        stack.wait_until(lambda: all(stack.resource(name).physical_resource_id for name in ("web0", "web1")))
        ids = {name: stack.resource(name).physical_resource_id for name in ("web0", "web1")}
        servers += ids.values()
        stack.wait()
        said = f"hello on {ids['web0']} on {ids['web1']}"
        assert stack.outputs == {"said": said}
        for name in ids:
            joined = {"server": {"get_resource": name}, "signal_transport": "HEAT_SIGNAL"}
            agent = {"type": "OS::HeatWorkflow::AgentOnRunningServer", "properties": joined}
            stock["resources"][f"{name}_agent"] = agent
        (tmp_path / "with-agents.yaml").write_text(yaml.safe_dump(stock))
        stack.update(tmp_path / "with-agents.yaml", environment=DROP_IN.with_name("drop-in-running.yaml"))
    assert {name: stack.resource(name).physical_resource_id for name in ids} == ids
    assert [(task["name"], task["action"], task["state"]) for task in tasks_of(stack)] == [
        ("first", "CREATE", "succeeded"),
        ("second", "CREATE", "succeeded"),
    ]
    assert stack.outputs == {"said": said}
    (agent_of_web0,) = api.list_agents(server=ids["web0"])
    assert agent_of_web0["id"] in old.installers[ids["web0"]]
    assert agent_of_web0["state"] == "active"
