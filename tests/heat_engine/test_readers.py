# SPDX-License-Identifier: Apache-2.0
"""S69: readers of a project, who may look at everything of a stack, get nothing with which to join as its machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1.session import Session

from devcloud.cloud import DevCloud
from devcloud.people import Person
from devcloud.registry import GUEST_TASKS, ORCHESTRATION
from devcloud.stacks import Stack, Stacks

TOKEN = re.compile(r"hwj1\.[0-9a-f]{32}\.[\w-]{43}")
WITH = "?with_attr=join&with_attr=user_data&with_attr=os_collect_config&with_attr=show"
OF_A_RESOURCE = ("", WITH, "/metadata", "/events")
VALUES = {"join": ["agent", "join"], "user_data": ["agent", "user_data"], "machine": ["machine", "join"]}
CONFIG = {"group": "script", "config": "#!/bin/sh\n", "inputs": [{"name": "pin"}]}
TEMPLATE: dict[str, Any] = {
    "heat_template_version": "2021-04-16",
    "resources": {
        "agent": {"type": "OS::HeatWorkflow::Agent"},
        "machine": {"type": "OS::HeatWorkflow::DeployedServer"},
        "group": {
            "type": "OS::HeatWorkflow::TaskGroup",
            "properties": {
                "definition": CONFIG,
                "servers": {"a": {"get_resource": "agent"}},
                "input_values": {"pin": "1234"},
                "hidden_inputs": ["pin"],
                "signal_transport": "NO_SIGNAL",
            },
        },
    },
    "outputs": {name: {"value": {"get_attr": path}} for name, path in VALUES.items()},
}
MACHINES = {**TEMPLATE, "resources": {name: TEMPLATE["resources"][name] for name in ("agent", "machine")}}


class Looking:
    """One user looks at one stack through Heat's API."""

    def __init__(self, session: Session, stack: Stack, project_id: str) -> None:
        self._session, self._root = session, f"/stacks/{stack.name}/{stack.id}"
        # Heat's endpoint is that of the user's own project, whosever stack it is.
        self._endpoint = str(session.get_endpoint(**ORCHESTRATION))
        self._endpoint = self._endpoint.replace(str(session.get_project_id()), project_id)

    def call(self, path: str, method: str = "GET", body: object = None) -> tuple[int, str]:
        answer = self._session.request(self._endpoint + self._root + path, method, json=body, raise_exc=False)
        return answer.status_code, answer.text

    def get(self, path: str) -> dict[str, Any]:
        status, text = self.call(path)
        assert status == 200, (path, status, text)
        return dict(json.loads(text))

    def everything(self, *snapshot_ids: str) -> dict[str, str]:
        """All that Heat shows of a stack, by path."""
        template = self.get("/template")
        events = [event for event in self.get("/events")["events"] if event["resource_name"] in template["resources"]]
        assert events
        whole = ("", "/template", "/environment", "/files", "/events", "/snapshots", "/outputs", "/resources")
        paths = [
            *whole,
            "/resources?with_detail=true",
            *(f"/snapshots/{snapshot_id}" for snapshot_id in snapshot_ids),
            *(f"/outputs/{name}" for name in template.get("outputs", ())),
            *(f"/resources/{name}{more}" for name in template["resources"] for more in OF_A_RESOURCE),
            *(f"/resources/{event['resource_name']}/events/{event['id']}" for event in events),
        ]
        return {path: json.dumps(self.get(path)) for path in paths}


@pytest.fixture
def off(cloud: DevCloud, stacks: Stacks) -> Iterator[None]:
    """Machines that have not booted: their tokens are unused. The stacks go before one could boot."""
    with cloud.agents.switched_off():
        yield
        stacks.delete_all()


@pytest.fixture(scope="module")
def people(cloud: DevCloud) -> dict[str, Person]:
    asked = {"member": ("demo", ["member"]), "reader": ("demo", ["reader"]), "other": ("other", ["member"])}
    return {name: cloud.create_person(project, roles) for name, (project, roles) in asked.items()}


def snapshot_of(stacks: Stacks, stack: Stack) -> str:
    made = stacks.heat.stacks.snapshot(stack.id, "before the boot")
    stack.wait_until(lambda: stacks.heat.stacks.snapshot_show(stack.id, made["id"])["snapshot"]["status"] == "COMPLETE")
    return str(made["id"])


@pytest.mark.usefixtures("off")
def test_s69_a_reader_gets_no_join_token_by_any_way_of_looking_at_a_stack(
    cloud: DevCloud, stacks: Stacks, people: dict[str, Person]
) -> None:
    stack = stacks.create("looked-at", TEMPLATE)
    snapshot_id = snapshot_of(stacks, stack)
    member, reader, other = (
        Looking(people[name].session, stack, cloud.project_id) for name in ("member", "reader", "other")
    )

    # Whoever may boot the machine by hand has what it takes to do so ...
    seen = member.everything(snapshot_id)
    with_token = {path for path, text in seen.items() if TOKEN.search(text)}
    assert with_token == {
        *("", "/resources?with_detail=true"),
        *(f"/outputs/{name}" for name in VALUES),
        *(f"/resources/{name}{more}" for name in ("agent", "machine") for more in ("", WITH)),
    }
    tokens = {found for text in seen.values() for found in TOKEN.findall(text)}
    assert len(tokens) == 2

    # ... a reader sees all of the stack, and null in its place.
    seen = reader.everything(snapshot_id)
    assert {path: found for path, text in seen.items() if (found := TOKEN.findall(text))} == {}
    for name in ("agent", "machine"):
        assert reader.get(f"/resources/{name}{WITH}")["resource"]["attributes"]["join"] is None
    assert reader.get(f"/resources/agent{WITH}")["resource"]["attributes"]["user_data"] is None
    assert {name: reader.get(f"/outputs/{name}")["output"]["output_value"] for name in VALUES} == dict.fromkeys(VALUES)
    assert [reader.call(path, method)[0] for method, path in (("DELETE", "/abandon"), ("GET", "/export"))] == [403, 403]
    assert reader.call("", "PATCH", {"existing": True})[0] == 403
    assert [other.call(path)[0] for path in ("", f"/resources/agent{WITH}", "/outputs/join")] == [403, 403, 403]

    # What Heat keeps is sealed: the token, and what makes digests of hidden values worthless to guess from.
    kept = json.loads(seen[f"/snapshots/{snapshot_id}"])["snapshot"]["data"]["resources"]
    assert kept["agent"]["resource_data"]["user_data"].startswith("heat-workflow-sealed:")
    assert kept["group"]["resource_data"]["heat_workflow_salt"].startswith("heat-workflow-sealed:")
    stored = b"".join(path.read_bytes() for path in cloud.directory.glob("heat.sqlite*"))
    assert stack.id.encode() in stored
    assert [token for token in tokens if token.encode() in stored] == []


@pytest.mark.usefixtures("off")
def test_s69_a_reader_gets_no_join_token_from_the_tasks_api(stacks: Stacks, people: dict[str, Person]) -> None:
    stack = stacks.create("listed", {**TEMPLATE, "outputs": {}})
    session, agent_id = people["reader"].session, stack.resource("agent").physical_resource_id
    for path in ("/v1/agents", f"/v1/agents/{agent_id}", f"/v1/agents/{agent_id}/events"):
        answer = session.get(path, endpoint_filter=GUEST_TASKS)
        assert answer.status_code == 200
        assert not TOKEN.search(answer.text)
    body = {"name": "mine", "capabilities": [], "server": agent_id}
    for method, path, sent in (("PUT", "", body), ("POST", "/rejoin", None), ("PATCH", "", {"name": "mine"})):
        answer = session.request(
            f"/v1/agents/{agent_id}{path}", method, json=sent, endpoint_filter=GUEST_TASKS, raise_exc=False
        )
        assert answer.status_code == 403


@pytest.mark.usefixtures("off")
def test_s69_nobody_gets_the_token_of_a_server_that_boots_with_its_agent_from_heat(
    cloud: DevCloud, stacks: Stacks, people: dict[str, Person]
) -> None:
    asked = {"flavor": "m1.small", "image": "debian", "networks": [{"allocate_network": "none"}]}
    server = {
        "type": "OS::HeatWorkflow::Server",
        "properties": {**asked, "user_data_format": "SOFTWARE_CONFIG"},
    }
    stack = stacks.create("booted", {**TEMPLATE, "resources": {"booted": server}, "outputs": {}})
    nova_id = stack.resource("booted").physical_resource_id
    user_data = json.loads((cloud.directory / "nova" / f"{nova_id}.json").read_text())["user_data"]
    (token,) = TOKEN.findall(base64.b64decode(user_data).decode())
    for name in ("member", "reader"):
        seen = Looking(people[name].session, stack, cloud.project_id).everything()
        assert [path for path, text in seen.items() if TOKEN.search(text)] == []
    stored = b"".join(path.read_bytes() for path in cloud.directory.glob("heat.sqlite*"))
    assert stack.id.encode() in stored
    assert token.encode() not in stored


@pytest.mark.usefixtures("off")
@pytest.mark.parametrize("key_is_known", [True, False])
def test_a_stack_that_is_abandoned_and_adopted_has_its_join_data_still_or_an_update_makes_it_anew(
    stacks: Stacks, key_is_known: bool
) -> None:
    stack = stacks.create("left", MACHINES)
    before = stack.outputs
    data = json.dumps(stacks.heat.stacks.abandon(stack.id))
    assert not TOKEN.search(data)
    if not key_is_known:
        data = data.replace("cryptography_decrypt_v1:", "cryptography_decrypt_v1:of-another-cloud")
    adopted = stacks.create("adopted", MACHINES, adopt_stack_data=data)
    assert (adopted.outputs == before) is key_is_known
    if not key_is_known:
        adopted.update(MACHINES)
        assert all(TOKEN.search(json.dumps(value)) for value in adopted.outputs.values())


@pytest.mark.usefixtures("off")
def test_what_is_booted_elsewhere_in_the_tree_of_stacks_gets_its_user_data(stacks: Stacks, tmp_path: Path) -> None:
    outer = {
        "heat_template_version": "2021-04-16",
        "resources": {
            "inner": {"type": "inner.yaml"},
            "server": {"type": "OS::Heat::Value", "properties": {"value": {"get_attr": ["inner", "user_data"]}}},
        },
        "outputs": {"booted": {"value": {"get_attr": ["server", "value"]}}},
    }
    (tmp_path / "inner.yaml").write_text(json.dumps(MACHINES))
    (tmp_path / "outer.yaml").write_text(json.dumps(outer))
    assert TOKEN.search(stacks.create("nested", tmp_path / "outer.yaml").outputs["booted"])
