# SPDX-License-Identifier: Apache-2.0
"""The contract document: whole, and the same as the table it is made from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heat_workflow.api import openapi
from heat_workflow.api.app import routes
from heat_workflow.api.routing import Route

ROUTES = routes(["operator", "guest"])
DOCUMENT = openapi.document(ROUTES, "1.2.3")


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def references(part: Any) -> set[str]:
    if isinstance(part, list):
        return {name for item in part for name in references(item)}
    if not isinstance(part, dict):
        return set()
    own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
    return own | {name for item in part.values() for name in references(item)}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_answer_with_something_in_it_says_what(route: Route) -> None:
    for status, answer in operation(route)["responses"].items():
        assert status == "204" or answer["content"], status
        assert "X-Openstack-Request-Id" in answer["headers"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_operation_names_its_caller_and_its_refusals(route: Route) -> None:
    found = operation(route)
    statuses = set(found["responses"])
    assert {"400", "414", "431", "503"} <= statuses
    assert not {"500", "405"} & statuses
    if route.caller == "anybody":
        assert "security" not in found
        return
    assert "401" in statuses
    (security,) = found["security"]
    assert set(security) <= set(DOCUMENT["components"]["securitySchemes"])
    assert ("403" in statuses) == ("keystone" in security)
    assert ("410" in statuses) == ("agent" in security)


def test_operations_have_names_of_their_own() -> None:
    names = [operation(route)["operationId"] for route in ROUTES]
    assert len(set(names)) == len(names) == len(ROUTES)


def test_nothing_is_referred_to_that_is_not_there() -> None:
    names = list(references(DOCUMENT))
    assert len(names) > 20
    for name in names:
        part: Any = DOCUMENT
        for key in name.removeprefix("#/").split("/"):
            part = part[key]


def test_the_document_is_json_and_says_its_version() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_keys_of_maps_follow_the_rule_for_names() -> None:
    values = DOCUMENT["components"]["schemas"]["TaskIn"]["properties"]["input_values"]
    assert set(values["propertyNames"]) == {"minLength", "maxLength", "pattern"}
    assert "patternProperties" not in json.dumps(DOCUMENT)


def test_a_query_parameter_is_never_null() -> None:
    parameters = [parameter for route in ROUTES for parameter in operation(route)["parameters"]]
    assert {parameter["name"] for parameter in parameters} >= {"wait", "limit", "marker", "task_id"}
    assert not [parameter for parameter in parameters if {"type": "null"} in parameter["schema"].get("anyOf", [])]
