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


class Journal:
    """What the servers' scripts have written since it was read last."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def read(self) -> list[str]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.path.unlink(missing_ok=True)
        return lines

    def steps(self) -> dict[str, list[str]]:
        """By server, the steps that ended there; each step of both roles began after every one before had ended."""
        lines = [line.split() for line in self.read()]
        numbers = [int(words[1]) for words in lines]
        assert numbers == sorted(numbers), "in lock-step"
        found: dict[str, list[str]] = {}
        for _, number, action, name, identifier in (words for words in lines if words[0] == "end"):
            found.setdefault(name, []).append(f"{number} {action} {identifier}")
        return found


def test_steps_over_two_roles_run_in_lock_step_and_again_when_the_identifier_changes(
    stacks: Stacks, tmp_path: pathlib.Path
) -> None:
    journal = Journal(tmp_path / "journal")

    def said(action: str, identifier: str) -> list[str]:
        return [f"{number} {action} {identifier}" for number in range(1, 6)]

    def update(**parameters: object) -> None:
        given = {"journal": str(journal.path), **parameters}
        stack.update(STOCK / "steps.yaml", environment=DROP_IN, parameters=given)

    stack = stacks.create("steps", STOCK / "steps.yaml", DROP_IN, {"journal": str(journal.path)})
    assert stack.outputs == {"controllers": {"controller0": "5"}, "computes": {"compute0": "5"}}
    assert journal.steps() == dict.fromkeys(("controller0", "compute0"), said("CREATE", "first"))
    update()
    assert journal.read() == [], "nothing has changed"
    update(identifier="second")
    assert journal.steps() == dict.fromkeys(("controller0", "compute0"), said("UPDATE", "second"))
    update(identifier="second", controllers=2)
    assert journal.steps() == {"controller1": said("CREATE", "second")}, "scale-out runs on the new server alone"
    update(identifier="second", controllers=1)
    assert journal.read() == [], "scale-in runs nowhere"
    assert stack.outputs["controllers"] == {"controller0": "5"}
    update(identifier="third", controllers=2)
    expected = dict.fromkeys(("controller0", "compute0"), said("UPDATE", "third"))
    assert journal.steps() == {**expected, "controller1": said("CREATE", "third")}


def test_members_of_an_autoscaling_group_say_goodbye(stacks: Stacks, tmp_path: pathlib.Path) -> None:
    journal = Journal(tmp_path / "journal")
    given = {"journal": str(journal.path)}
    stack = stacks.create("scaled", STOCK / "scaled.yaml", DROP_IN, given)
    members = stack.outputs["names"]
    assert sorted(journal.read()) == sorted(f"hello {member}" for member in members)
    stack.update(STOCK / "scaled.yaml", DROP_IN, {**given, "size": 3})
    (newest,) = set(stack.outputs["names"]) - set(members)
    assert journal.read() == [f"hello {newest}"]
    stacks.heat.resources.signal(stack.id, "scale_in")
    stack.wait_until(lambda: len(stack.outputs["names"]) == 2)
    (gone,) = {*members, newest} - set(stack.outputs["names"])
    stack.wait_until(journal.path.exists)
    assert journal.read() == [f"goodbye {gone}"]
    left = stack.outputs["names"]
    stack.delete()
    assert sorted(journal.read()) == sorted(f"goodbye {member}" for member in left)
