# SPDX-License-Identifier: Apache-2.0
"""OpenAPI: the contract document, made from the same table that serves the requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pydantic
from pydantic.json_schema import models_json_schema

from heat_workflow.api.problems import TITLES
from heat_workflow.api.routing import Route

AGENT_CALLERS = {"agent": "agent", "agent-rotating": "agent", "join-token": "join-token"}
_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["status", "code", "title", "detail", "request_id"],
                "properties": {
                    "status": {"type": "integer"},
                    "code": {"type": "string"},
                    "title": {"type": "string"},
                    "detail": {"type": "string"},
                    "request_id": {"type": "string"},
                },
            },
        }
    },
}
_SCHEMES = {
    "keystone": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    "agent": {"type": "http", "scheme": "bearer", "description": "hwa1.<agent id>.<secret>"},
    "join-token": {"type": "http", "scheme": "bearer", "description": "hwj1.<agent id>.<secret>"},
}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes."""
    routes = list(routes)
    bodies = [(route.body, "validation") for route in routes if route.body is not None]
    _, schemas = models_json_schema(sorted(set(bodies), key=lambda pair: pair[0].__name__), ref_template=_REF)  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path.replace(":path}", "}"), {})[route.method.lower()] = _operation(route)
    components = {"schemas": {**schemas.get("$defs", {}), "Errors": _ERROR}, "securitySchemes": _SCHEMES}
    info = {"title": "heat-workflow tasks API", "version": version, "license": {"name": "Apache-2.0"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.endpoint.__name__ + re.sub(r"\W+", "_", route.path),
        "parameters": _parameters(route),
        "responses": {str(status): _response(status) for status in _statuses(route)},
    }
    if route.caller in AGENT_CALLERS:
        operation["security"] = [{AGENT_CALLERS[route.caller]: []}]
    elif route.caller != "anybody":
        operation["security"] = [{"keystone": []}]
        operation["description"] = f"Policy: `{route.caller}`."
    if route.body is not None:
        schema = {"$ref": _REF.format(model=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)", route.path)
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return path + (_query_parameters(route.query) if route.query is not None else [])


def _query_parameters(query: type[pydantic.BaseModel]) -> list[dict[str, Any]]:
    schema = query.model_json_schema(ref_template="{model}")
    definitions = schema.get("$defs", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _inlined(field, definitions)}
        for name, field in schema["properties"].items()
    ]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    return [_inlined(item, definitions) for item in schema] if isinstance(schema, list) else schema


def _statuses(route: Route) -> list[int]:
    """Every status the route can answer: its own, those of its kind, and those of the pipeline."""
    found = {*route.answers, *route.refusals, 400, 503}
    if route.caller != "anybody":
        found |= {401}
    if route.caller != "anybody" and route.caller not in AGENT_CALLERS:
        found |= {403}
    if route.body is not None:
        found |= {413, 422}
    if route.query is not None:
        found |= {422}
    return sorted(found)


def _response(status: int) -> dict[str, Any]:
    if status == 204:
        return {"description": "Nothing to say"}
    if status < 400:
        return {"description": "Done", "content": {"application/json": {}}}
    schema = {"$ref": _REF.format(model="Errors")}
    return {"description": TITLES[status], "content": {"application/json": {"schema": schema}}}
