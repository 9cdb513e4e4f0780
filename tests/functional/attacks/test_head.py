# SPDX-License-Identifier: Apache-2.0
"""HEAD: headers alone and at once, so that the connection is free for whoever comes next on it (S67)."""

from __future__ import annotations

import contextlib
import http.client
import json

import pytest

from heat_workflow.api.routing import Route
from tests.functional.attacks.test_json import headers_for
from tests.functional.attacks.world import ROUTES, World, filled, name_of
from tests.harness.servers import ApiProcess

SOONER_THAN_A_WAIT = 10  # seconds; a wait is asked for 50
QUERIES = {
    "/v1/workflows/{workflow_id}": "?wait=50",
    "/v1/workflows/{workflow_id}/events": "?wait=50&after=1000000",
    "/v1/workflows/{workflow_id}/tasks": "?wait=50&fanout=f",
    "/v1/workflows/{workflow_id}/tasks/{task_id}": "?wait=50",
    "/v1/workflows/{workflow_id}/tasks/{task_id}/log": "?follow=true",
    "/v1/workflows/{workflow_id}/graph": "?format=dot",
}


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_s67_after_a_head_the_connection_answers_the_next_request(api: ApiProcess, world: World, route: Route) -> None:
    """Also with what makes a GET wait or stream; a path without GET refuses it, and goes on just so."""
    expected = [200] if any(r.method == "GET" and r.path == route.path for r in ROUTES) else [404, 405]
    headers = {} if route.caller == "anybody" else headers_for(route, world)
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", api.port, timeout=SOONER_THAN_A_WAIT)
    ) as connection:
        for query in {"", QUERIES.get(route.path, "")}:
            for accept in ("*/*", "text/event-stream"):
                connection.request("HEAD", filled(route.path, world.ids) + query, headers={**headers, "Accept": accept})
                answer = connection.getresponse()
                sock = connection.sock
                assert answer.status in expected, query
                assert answer.read() == b""
                assert "transfer-encoding" not in answer.headers
                connection.request("GET", "/healthz")
                following = connection.getresponse()
                assert following.status == 200, query
                assert json.loads(following.read())["status"] == "ok", query
                assert connection.sock is sock is not None, "the connection was not kept"


def test_s67_head_and_get_have_the_same_headers(api: ApiProcess, world: World) -> None:
    route = next(route for route in ROUTES if route.path.endswith(".pyz"))
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=SOONER_THAN_A_WAIT)
    told = []
    for method in ("HEAD", "GET"):
        connection.request(method, filled(route.path, world.ids))
        answer = connection.getresponse()
        answer.read()
        told.append({name: answer.headers[name] for name in ("Content-Length", "Content-Type", "ETag")})
    connection.close()
    assert told[0] == told[1]
