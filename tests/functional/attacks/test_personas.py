# SPDX-License-Identifier: Apache-2.0
"""Personas: every route against everybody who may and may not call it (R2, R3, R4)."""

from __future__ import annotations

from typing import Any

import pytest

from heat_workflow.api.openapi import AGENT_CALLERS
from heat_workflow.api.policies import list_rules
from heat_workflow.api.routing import Route
from tests.functional.attacks.state import Steady
from tests.functional.attacks.world import (
    AGENT_ROUTES,
    OPERATOR_ROUTES,
    ROUTES,
    Ids,
    World,
    bearer,
    filled,
    name_of,
    operator_headers,
)
from tests.harness.callers import Operator, new_id

MAY = {rule.name: {role for role in ("reader", "member", "admin") if role in rule.check_str} for rule in list_rules()}
PERSONAS = ("nobody", "reader", "member", "foreign member", "admin", "agent")
ALONE = [route for route in OPERATOR_ROUTES if "{" not in route.path]
WITHIN = [route for route in OPERATOR_ROUTES if "{" in route.path]
WRITES = [route for route in OPERATOR_ROUTES if route.method != "GET"]


def headers_of(persona: str, world: World, project: str) -> dict[str, str]:
    operators = {"reader": "reader", "member": "member,reader", "admin": "admin"}
    if persona in operators:
        return {"X-Auth-Token": f"u:{project}:{operators[persona]}"}
    if persona == "foreign member":
        return {"X-Auth-Token": f"u:{new_id()}:member"}
    return bearer(world.agent.bearer) if persona == "agent" else {}


def expected(persona: str, route: Route) -> set[int]:
    """The statuses this persona may get; the empty set stands for any good one."""
    if route.caller == "anybody":
        return set()
    if route.caller in AGENT_CALLERS:
        served = persona == "agent" and route.caller != "join-token"
        return set() if served else {401}
    if persona in ("nobody", "agent"):
        return {401}
    if persona == "foreign member":
        return {404} if "{" in route.path else set()
    return set() if persona in MAY[route.caller] else {403}


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_r4_every_route_names_a_rule_or_the_kind_of_its_caller(route: Route) -> None:
    assert route.caller in MAY or route.caller in AGENT_CALLERS or route.caller == "anybody"
    assert route.caller != "anybody" or route.method == "GET"


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_r4_every_route_refuses_whom_its_rule_does_not_name(
    steady: Steady, world: World, project: str, route: Route
) -> None:
    wanted = {persona: expected(persona, route) for persona in PERSONAS}
    refused = {persona: statuses for persona, statuses in wanted.items() if statuses}
    with steady():
        got = {persona: {world.ask(route, headers_of(persona, world, project)).status_code} for persona in refused}
    assert got == refused


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_r4_every_route_serves_whom_its_rule_names(operator: Operator, project: str, route: Route) -> None:
    for persona in PERSONAS:
        if expected(persona, route):
            continue
        world = World(operator)
        if name_of(route) == "DELETE /v1/workflows/{workflow_id}":
            world.agent.report(world.taken)  # else it waits for the agent
        answer = world.ask(route, headers_of(persona, world, project))
        assert answer.status_code < 500, persona
        assert answer.status_code not in (401, 403, 404, 405), persona


@pytest.mark.parametrize("route", WITHIN, ids=name_of)
def test_s2_what_another_project_has_does_not_exist(
    steady: Steady, world: World, stranger: Operator, route: Route
) -> None:
    with steady():
        answer = world.ask(route, operator_headers(stranger))
    assert answer.status_code == 404


@pytest.mark.parametrize("route", ALONE, ids=name_of)
def test_s2_lists_hold_nothing_of_another_project(world: World, stranger: Operator, route: Route) -> None:
    text = world.ask(route, operator_headers(stranger)).text
    assert not [name for name in vars(world.ids).values() if name in text]


@pytest.mark.parametrize("mixed", ["workflow_id", "task_id"])
def test_s2_one_id_of_ones_own_does_not_open_the_other(world: World, stranger: Operator, mixed: str) -> None:
    own = stranger.task(stranger.workflow())
    ids = {"workflow_id": own["workflow_id"], "task_id": own["id"], "agent_id": new_id()}
    asked = Ids(**{**ids, mixed: getattr(world.ids, mixed)})
    for route in WITHIN:
        if "{task_id}" in route.path and route.method != "PUT":
            assert world.ask(route, operator_headers(stranger), asked).status_code == 404, name_of(route)


def test_s3_identity_headers_are_nothing_to_us(steady: Steady, world: World, project: str) -> None:
    forged = {"X-Project-Id": project, "X-Tenant-Id": project, "X-Roles": "admin", "X-User-Id": "u"}
    forged |= {"X-Identity-Status": "Confirmed", "X-Service-Roles": "service", "X-Is-Admin-Project": "True"}
    with steady():
        statuses = {name_of(route): world.ask(route, forged).status_code for route in OPERATOR_ROUTES}
    assert set(statuses.values()) == {401}, statuses


def test_s3_the_project_comes_from_the_token_whatever_else_is_said(
    steady: Steady, world: World, stranger: Operator, project: str
) -> None:
    forged = {"X-Project-Id": project, "X-Tenant-Id": project, "X-Roles": "admin"}
    path = f"/v1/workflows/{world.workflow_id}"
    with steady():
        assert stranger.call("GET", path, headers=forged).status_code == 404
        assert stranger.call("GET", path, params={"project_id": project}).status_code == 422
        assert stranger.call("GET", "/v1/workflows", params={"project_id": project}).status_code == 422
        assert stranger.call("POST", "/v1/workflows", json={"name": "w", "project_id": project}).status_code == 422
        for path in ("/v1/agents", "/v1/workflows"):
            everywhere = stranger.call("GET", path, params={"all_projects": "true"}, headers=forged)
            assert everywhere.status_code == 403


@pytest.mark.parametrize("route", OPERATOR_ROUTES, ids=name_of)
def test_s12_agent_tokens_open_no_operator_route(steady: Steady, world: World, route: Route) -> None:
    agent = world.agent
    tokens: list[dict[str, str]] = [bearer(agent.bearer), bearer(agent.join_token)]
    tokens += [{"X-Auth-Token": agent.bearer}, {"X-Auth-Token": f"Bearer {agent.bearer}"}]
    with steady():
        assert [world.ask(route, token).status_code for token in tokens] == [401] * 4


@pytest.mark.parametrize("route", AGENT_ROUTES, ids=name_of)
def test_s12_agent_routes_open_to_their_own_token_alone(
    steady: Steady, world: World, project: str, route: Route
) -> None:
    other = world.agent.bearer if route.caller == "join-token" else world.agent.join_token
    tokens: list[dict[str, str]] = [bearer(other), {"X-Auth-Token": f"u:{project}:admin"}, {}]
    tokens += [bearer(f"u:{project}:admin"), {"Authorization": f"Basic {world.agent.bearer}"}]
    with steady():
        assert [world.ask(route, token).status_code for token in tokens] == [401] * 5


@pytest.mark.parametrize("route", WRITES, ids=name_of)
def test_s22_a_reader_never_writes(steady: Steady, world: World, reader: Operator, route: Route) -> None:
    with steady():
        assert world.ask(route, operator_headers(reader)).status_code == 403


def test_s22_a_reader_does_not_see_hidden_outputs(world: World, reader: Operator) -> None:
    path = filled("/v1/workflows/{workflow_id}/tasks/{task_id}", world.ids)
    assert reader.call("GET", path).status_code == 200
    assert reader.call("GET", path, params={"reveal": "true"}).status_code == 403


def test_s58_an_agent_adds_cancels_and_deletes_nothing(steady: Steady, world: World) -> None:
    task = f"/tasks/{world.ids.task_id}"
    tries: list[tuple[str, str, Any]] = [
        ("POST", task + "/cancel", {}),
        ("POST", "/tasks", {"name": "x"}),
        ("PUT", task, {"name": "x"}),
        ("GET", task, None),
        ("GET", task + "/report", None),
        ("DELETE", task, None),
        ("DELETE", task + "/report", None),
        ("DELETE", "/credential", None),
        ("DELETE", f"/agents/{world.ids.agent_id}", None),
        ("GET", "/tasks", None),
        ("GET", "/agents", None),
    ]
    with steady():
        statuses = [world.agent.call(method, path, json=body).status_code for method, path, body in tries]
    assert set(statuses) <= {404, 405}
