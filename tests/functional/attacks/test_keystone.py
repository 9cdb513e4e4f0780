# SPDX-License-Identifier: Apache-2.0
"""Keystone tokens of every kind, by a real Keystone: each opens what it is scoped to and nothing else (S56)."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.functional.attacks.world import OPERATOR_ROUTES, Ids, filled, name_of
from tests.harness.callers import new_id

if TYPE_CHECKING:
    from devcloud.cloud import DevCloud
    from devcloud.people import Person


class Keystone:
    """Asks the cloud's Keystone for tokens, as anybody with a password could."""

    def __init__(self, cloud: DevCloud) -> None:
        self.cloud = cloud
        self.url = cloud.auth_url

    def token(self, person: Person, scope: Any, **identity: Any) -> str:
        user = {"id": person.user_id, "password": person.password}
        proof = identity or {"methods": ["password"], "password": {"user": user}}
        auth: dict[str, Any] = {"identity": proof}
        if scope is not None:
            auth["scope"] = scope
        answer = requests.post(f"{self.url}/auth/tokens", json={"auth": auth}, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.headers["X-Subject-Token"]

    def own(self, person: Person) -> str:
        return self.token(person, {"project": {"id": person.project_id}})

    def call(self, person: Person, method: str, path: str, body: Any) -> dict[str, Any]:
        headers = {"X-Auth-Token": self.own(person)}
        answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=30)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def revoke(self, token: str) -> None:
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        assert requests.delete(f"{self.url}/auth/tokens", headers=headers, timeout=30).status_code == 204

    def ask(self, token: str | None, method: str = "GET", path: str = "/v1/workflows", **kwargs: Any) -> int:
        headers = {**({} if token is None else {"X-Auth-Token": token}), **kwargs.pop("headers", {})}
        verify = str(self.cloud.api_ca_file)
        url = self.cloud.api_url + path
        return requests.request(method, url, headers=headers, verify=verify, timeout=60, **kwargs).status_code


@pytest.fixture(scope="module")
def keystone(cloud: DevCloud) -> Keystone:
    return Keystone(cloud)


@pytest.fixture(scope="module")
def member(cloud: DevCloud) -> Iterator[Person]:
    person = cloud.create_person(f"attacked-{uuid.uuid4().hex[:8]}", ["member"])
    yield person
    person.session.session.close()


@pytest.fixture(scope="module")
def foreigner(cloud: DevCloud) -> Iterator[Person]:
    person = cloud.create_person(f"elsewhere-{uuid.uuid4().hex[:8]}", ["member"])
    yield person
    person.session.session.close()


@pytest.fixture(scope="module")
def workflow_id(keystone: Keystone, member: Person) -> str:
    found = new_id()
    assert keystone.ask(keystone.own(member), "PUT", f"/v1/workflows/{found}", json={"name": "w"}) == 201
    return found


def test_s56_a_token_of_the_project_is_good_there(keystone: Keystone, member: Person, workflow_id: str) -> None:
    assert keystone.ask(keystone.own(member), path=f"/v1/workflows/{workflow_id}") == 200


def test_s56_a_token_of_another_project_finds_nothing(keystone: Keystone, foreigner: Person, workflow_id: str) -> None:
    token = keystone.own(foreigner)
    assert keystone.ask(token, path=f"/v1/workflows/{workflow_id}") == 404
    assert keystone.ask(token, "DELETE", f"/v1/workflows/{workflow_id}") == 404


@pytest.mark.parametrize("token", [None, "", "x", "gAAAAA" + "x" * 200, "u:project:admin", "Bearer x"])
def test_s56_what_is_no_token_opens_nothing(keystone: Keystone, token: str | None, workflow_id: str) -> None:
    for route in OPERATOR_ROUTES:
        path = filled(route.path, Ids(workflow_id, new_id(), new_id()))
        assert keystone.ask(token, route.method, path) == 401, name_of(route)


def test_s3_s56_identity_headers_do_not_reach_the_api(keystone: Keystone, member: Person, foreigner: Person) -> None:
    forged = {"X-Project-Id": member.project_id, "X-Roles": "admin", "X-Identity-Status": "Confirmed", "X-User-Id": "u"}
    assert keystone.ask(None, headers=forged) == 401
    for noun in ("agents", "workflows"):
        everywhere = f"/v1/{noun}?all_projects=true"
        assert keystone.ask(keystone.own(foreigner), path=everywhere, headers=forged) == 403


def test_s56_an_unscoped_token_opens_nothing(keystone: Keystone, member: Person) -> None:
    assert keystone.ask(keystone.token(member, "unscoped")) == 403


@pytest.mark.parametrize(
    ("grants", "scope"),
    [("/system", {"system": {"all": True}}), ("/domains/default", {"domain": {"id": "default"}})],
    ids=["system", "domain"],
)
def test_s56_a_token_of_no_project_opens_nothing(
    cloud: DevCloud, keystone: Keystone, member: Person, grants: str, scope: dict[str, Any]
) -> None:
    admin = cloud.admin_session()
    (role,) = admin.get(f"{keystone.url}/roles?name=admin").json()["roles"]
    admin.put(f"{keystone.url}{grants}/users/{member.user_id}/roles/{role['id']}")
    try:
        assert keystone.ask(keystone.token(member, scope)) == 403
    finally:
        admin.delete(f"{keystone.url}{grants}/users/{member.user_id}/roles/{role['id']}")


def test_s56_a_revoked_token_is_refused(keystone: Keystone, member: Person) -> None:
    token = keystone.own(member)
    keystone.revoke(token)
    assert keystone.ask(token) == 401


def test_s56_a_trust_gives_what_it_names_until_it_expires(
    keystone: Keystone, member: Person, foreigner: Person, workflow_id: str
) -> None:
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=6)
    trust = {
        "trustor_user_id": member.user_id,
        "trustee_user_id": foreigner.user_id,
        "project_id": member.project_id,
        "impersonation": False,
        "roles": [{"name": "member"}],
        "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    made = keystone.call(member, "POST", "/OS-TRUST/trusts", {"trust": trust})["trust"]
    token = keystone.token(foreigner, {"OS-TRUST:trust": {"id": made["id"]}})
    assert keystone.ask(token, path=f"/v1/workflows/{workflow_id}") == 200
    deadline = time.monotonic() + 30
    while keystone.ask(token, path=f"/v1/workflows/{workflow_id}") != 401:
        assert time.monotonic() < deadline, "an expired token still opens the API"
        time.sleep(0.5)
    assert datetime.datetime.now(datetime.timezone.utc) >= ends - datetime.timedelta(seconds=1)


def test_s56_an_application_credential_is_held_to_its_access_rules(
    keystone: Keystone, member: Person, workflow_id: str
) -> None:
    rule = {"service": "guest-tasks", "method": "GET", "path": "/v1/workflows/*"}
    asked = {"name": uuid.uuid4().hex, "access_rules": [rule]}
    path = f"/users/{member.user_id}/application_credentials"
    made = keystone.call(member, "POST", path, {"application_credential": asked})["application_credential"]
    proof = {"id": made["id"], "secret": made["secret"]}
    token = keystone.token(member, None, methods=["application_credential"], application_credential=proof)
    assert keystone.ask(token, path=f"/v1/workflows/{workflow_id}") == 200
    assert keystone.ask(token, "DELETE", f"/v1/workflows/{workflow_id}") == 401
    assert keystone.ask(token, "POST", "/v1/workflows", json={"name": "w"}) == 401
    assert keystone.ask(token, path="/v1/agents") == 401
    assert keystone.ask(keystone.own(member), path=f"/v1/workflows/{workflow_id}") == 200


def test_s22_s56_a_reader_by_keystones_word_never_writes(cloud: DevCloud, keystone: Keystone, member: Person) -> None:
    person = cloud.create_person(member.project_name, ["reader"])
    token = keystone.own(person)
    person.session.session.close()
    assert keystone.ask(token) == 200
    assert keystone.ask(token, "POST", "/v1/workflows", json={"name": "w"}) == 403
