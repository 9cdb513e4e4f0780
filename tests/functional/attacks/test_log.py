# SPDX-License-Identifier: Apache-2.0
"""The log under attack: refusals buy no lines (S75)."""

from __future__ import annotations

import http.client
import uuid

from tests.functional.attacks.raw import say
from tests.functional.attacks.world import ROUTES, World, filled
from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess

REQUESTS = 300
BYTES_MOST = 16 * 1024  # of log


def test_s75_strangers_write_nothing_into_the_log(api: ApiProcess, world: World) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    before = api.log.stat().st_size
    for number in range(REQUESTS):
        route = ROUTES[number % len(ROUTES)]
        if route.caller == "anybody":
            continue
        headers = {"X-Openstack-Request-Id": f"req-{uuid.uuid4()}", "X-Auth-Token": "", "Authorization": "Bearer x"}
        connection.request(route.method, filled(route.path, world.ids), headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 401
    for number in range(REQUESTS):
        connection.request("GET", f"/{number}" + "%F0%9F%98%80" * 300, headers={"X-Openstack-Request-Id": "req-1"})
        connection.getresponse().read()
    connection.close()
    for _ in range(50):
        assert say(api, b"this is not HTTP\r\n\r\n").statuses == [400]
    assert api.log.stat().st_size - before < BYTES_MOST


def test_s75_an_operator_finds_the_id_of_heat_in_the_log(api: ApiProcess, operator: Operator) -> None:
    theirs = f"req-{uuid.uuid4()}"
    answer = operator.call("GET", "/v1/workflows", headers={"X-Openstack-Request-Id": theirs})
    assert f"{answer.headers['X-Openstack-Request-Id']} is {theirs} of the caller" in api.log.read_text()
