# SPDX-License-Identifier: Apache-2.0
"""Identity: tokens read, and where a request comes from."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest
from starlette.requests import Request

from heat_workflow import errors
from heat_workflow.api.identity import NoAuth, Sources, bearer
from heat_workflow.taskqueue import credentials

AGENT = uuid.UUID(int=7)
SECRET = "A" * 43


def request(peer: str, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return Request({"type": "http", "client": (peer, 1234), "headers": headers})


def source(trusted: Sequence[str], peer: str, *forwarded: str) -> str:
    return Sources(trusted).of(request(peer, *forwarded))


def test_nobody_is_believed_by_default() -> None:
    assert source([], "10.0.0.1", "192.0.2.7") == "10.0.0.1"


def test_a_trusted_proxy_is_believed_for_the_hop_it_saw() -> None:
    assert source(["10.0.0.1"], "10.0.0.1", "203.0.113.1, 192.0.2.7") == "192.0.2.7"
    assert source(["10.0.0.0/24"], "10.0.0.1", "203.0.113.1", "192.0.2.7, 10.0.0.9") == "192.0.2.7"
    assert source(["10.0.0.1"], "10.0.0.2", "192.0.2.7") == "10.0.0.2"


def test_a_trusted_proxy_that_says_nothing_is_the_source() -> None:
    assert source(["10.0.0.1"], "10.0.0.1") == "10.0.0.1"


def test_what_is_no_address_is_as_far_as_trust_goes() -> None:
    assert source(["10.0.0.1"], "10.0.0.1", "192.0.2.7, unknown") == "unknown"
    assert len(source(["10.0.0.1"], "10.0.0.1", "x" * 5000)) == 64


def test_a_network_of_ipv6_is_one_source() -> None:
    assert source([], "2001:db8:1:2::1") == source([], "2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert source(["::ffff:10.0.0.1", "10.0.0.1"], "::ffff:10.0.0.1", "192.0.2.7") == "192.0.2.7"


def test_a_proxy_that_is_no_network_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(errors.Invalid, match="trusted_proxies"):
        Sources(["proxy.example"])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic hwa1.{AGENT.hex}.{SECRET}",
        f"Bearer hwj1.{AGENT.hex}.{SECRET}",
        f"Bearer hwa1.{AGENT}.{SECRET}",
        f"Bearer hwa1.{AGENT.hex}.{SECRET[:-1]}",
        f"Bearer hwa1.{AGENT.hex}.{SECRET} ",
        f"Bearer HWA1.{AGENT.hex}.{SECRET}",
        f"Bearer hwa1.{AGENT.hex}.{SECRET}\n",
    ],
)
def test_what_is_no_credential_is_refused_in_one_way(header: str | None) -> None:
    with pytest.raises(errors.Unauthenticated) as refused:
        bearer(header, credentials.CREDENTIAL)
    assert refused.value.detail == "the token is not valid here"


def test_a_credential_is_taken_apart_without_its_secret() -> None:
    token = bearer(f"bearer hwa1.{AGENT.hex}.{SECRET}", credentials.CREDENTIAL)
    assert token.agent_id == str(AGENT)
    assert SECRET not in repr(token)


@pytest.mark.parametrize("token", [None, "", "u", "u:", ":p", "::admin"])
async def test_without_keystone_a_token_names_user_and_project(token: str | None) -> None:
    with pytest.raises(errors.Unauthenticated):
        await NoAuth().operator(token, "GET", "/", "")


async def test_without_keystone_roles_are_as_said() -> None:
    operator = await NoAuth().operator("u:p:reader,x", "GET", "/", "")
    assert (operator.user_id, operator.project_id, list(operator.roles)) == ("u", "p", ["reader", "x"])
