# SPDX-License-Identifier: Apache-2.0
"""DevCloud: its servers are the real ones, can be killed and started again, know the people made in them."""

import os
from pathlib import Path

import pytest
from keystoneauth1 import exceptions

from devcloud.cloud import DevCloud
from devcloud.processes import Server
from devcloud.settings import DevCloudError
from devcloud.stacks import Stacks

VALUES = {
    "heat_template_version": "wallaby",
    "parameters": {"word": {"type": "string", "default": "one"}},
    "resources": {
        "first": {"type": "OS::Heat::Value", "properties": {"value": {"get_param": "word"}}},
        "second": {"type": "OS::Heat::Value", "properties": {"value": {"get_attr": ["first", "value"]}}},
    },
    "outputs": {"word": {"value": {"get_attr": ["second", "value"]}}},
}
BROKEN = {
    "heat_template_version": "wallaby",
    "resources": {"bad": {"type": "OS::Heat::TestResource", "properties": {"fail": True}}},
}


def test_a_stack_of_values_is_created_updated_and_deleted(stacks: Stacks) -> None:
    stack = stacks.create("values", VALUES)
    assert (stack.status, stack.outputs) == ("CREATE_COMPLETE", {"word": "one"})
    stack.update(parameters={"word": "two"})
    assert (stack.status, stack.outputs) == ("UPDATE_COMPLETE", {"word": "two"})
    assert stack.resource("second", "value").attributes == {"value": "two"}
    stack.delete()
    assert stack.status == "DELETE_COMPLETE"


def test_a_failed_stack_says_which_resource_failed(stacks: Stacks) -> None:
    with pytest.raises(DevCloudError, match=r"CREATE_FAILED(.|\n)*bad CREATE_FAILED"):
        stacks.create("broken", BROKEN)


def test_the_catalog_names_all_three_services(cloud: DevCloud) -> None:
    session = cloud.session()
    found = [session.get_endpoint(service_type=kind) for kind in ("identity", "orchestration", "guest-tasks")]
    assert found == [cloud.auth_url, cloud.heat_url, cloud.api_url]


@pytest.mark.parametrize("name", ["keystone", "heat", "api"])
def test_a_killed_server_answers_again_after_start(cloud: DevCloud, name: str) -> None:
    server: Server = getattr(cloud, name)
    first = server.pid
    server.kill()
    assert not server.is_alive
    assert not Path(f"/proc/{first}").exists()
    server.start()
    assert server.pid != first
    assert Stacks(cloud.session()).heat.stacks.list() is not None
    assert cloud.session().get(f"{cloud.api_url}/v1/workflows").json()["workflows"] is not None


def test_people_see_only_their_own_project(cloud: DevCloud, stacks: Stacks) -> None:
    stack = stacks.create("mine", VALUES)
    colleague = cloud.create_person("demo", ["reader"])
    stranger = cloud.create_person("elsewhere", ["member", "heat_stack_owner"])
    assert stack.id in [each.id for each in Stacks(colleague.session).heat.stacks.list()]
    assert [each.id for each in Stacks(stranger.session).heat.stacks.list()] == []
    assert colleague.project_id == cloud.project_id
    with pytest.raises(exceptions.Forbidden):
        stranger.session.get(f"{cloud.heat_url}/stacks")


def test_a_directory_serves_one_cloud_at_a_time(cloud: DevCloud) -> None:
    with pytest.raises(DevCloudError, match="in use"):
        DevCloud(cloud.directory).start()


def test_secrets_are_for_the_owner_only(cloud: DevCloud) -> None:
    names: tuple[str, ...] = (
        "settings.json",
        "keystone.conf",
        "heat.conf",
        "heat-workflow.conf",
        "openrc",
        "clouds.yaml",
    )
    names += ("api.key", "heat-workflow.keys")
    modes = {name: oct(os.stat(cloud.directory / name).st_mode & 0o777) for name in names}
    assert modes == dict.fromkeys(names, "0o600")
