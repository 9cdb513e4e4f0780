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

_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["errors"],
    "additionalProperties": False,
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["status", "code", "title", "detail", "request_id"],
                "additionalProperties": False,
                "properties": {
                    "status": {"type": "integer"},
                    "code": {"type": "string", "description": "A stable word for programs"},
                    "title": {"type": "string"},
                    "detail": {"type": "string", "description": "Names the thing and says what to do"},
                    "request_id": {"type": "string"},
                },
            },
        }
    },
}
AGENT_CALLERS = {"agent": "agent", "agent-rotating": "agent", "join-token": "join-token"}
_SCHEMES = {
    "keystone": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    "agent": {"type": "http", "scheme": "bearer", "description": "hwa1.<agent id>.<secret>"},
    "join-token": {"type": "http", "scheme": "bearer", "description": "hwj1.<agent id>.<secret>"},
}
_HEADERS = {
    "RequestId": {"description": "Names this request in the API's log", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds after which to repeat the request", "schema": {"type": "string"}},
}
_UUID = {"type": "string", "format": "uuid", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes."""
    routes = list(routes)
    models = {model for route in routes for model in (route.body, route.shows) if model is not None}
    named = sorted(models, key=lambda model: f"{model.__name__} {model.__module__}")
    refs, schemas = models_json_schema([(model, "validation") for model in named], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, refs)
    components = {
        "schemas": {**_with_strict_keys(schemas.get("$defs", {})), "Errors": _ERROR},
        "securitySchemes": _SCHEMES,
        "headers": _HEADERS,
    }
    info = {"title": "heat-workflow tasks API", "version": version, "license": {"name": "Apache-2.0"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _with_strict_keys(schema: Any) -> Any:
    """Maps whose keys follow a pattern take no other keys; as written by pydantic, other keys would pass unchecked."""
    if isinstance(schema, list):
        return [_with_strict_keys(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: _with_strict_keys(item) for name, item in schema.items()}
    patterns = schema.pop("patternProperties", {})
    for pattern, value in patterns.items():
        schema["propertyNames"] = {**schema.get("propertyNames", {}), "pattern": pattern}
        schema["additionalProperties"] = value
    return schema


def _operation(route: Route, refs: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z0-9]+', '_', route.path)}".rstrip("_"),
        "parameters": _parameters(route),
        "responses": {str(status): _response(route, status, refs) for status in _statuses(route)},
    }
    if route.caller in AGENT_CALLERS:
        operation["security"] = [{AGENT_CALLERS[route.caller]: []}]
    elif route.caller != "anybody":
        operation["security"] = [{"keystone": []}]
        operation["description"] = f"Policy: `{route.caller}`."
    if route.body is not None:
        content = {"application/json": {"schema": refs[route.body, "validation"]}}
        operation["requestBody"] = {"required": not route.body_may_lack, "content": content}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    path = [
        {"name": name, "in": "path", "required": True, "schema": _UUID if name.endswith("_id") else _DIGEST}
        for name in re.findall(r"{(\w+)", route.path)
    ]
    return path + (_query_parameters(route.query) if route.query is not None else [])


def _query_parameters(query: type[pydantic.BaseModel]) -> list[dict[str, Any]]:
    schema = query.model_json_schema(ref_template="{model}")
    definitions = schema.get("$defs", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _of_query(_inlined(field, definitions))}
        for name, field in schema["properties"].items()
    ]


def _of_query(schema: dict[str, Any]) -> dict[str, Any]:
    """What stands in a URL is never null: the parameter is left out instead."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if not choices:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**rest, **choices[0]} if len(choices) == 1 else {**rest, "anyOf": choices}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    return [_inlined(item, definitions) for item in schema] if isinstance(schema, list) else schema


def _statuses(route: Route) -> list[int]:
    """Every status the route can answer: its own, those of its kind, and those of the pipeline."""
    found = {*route.answers, *route.refusals, 400, 413, 414, 431, 503}
    if "{" in route.path:
        found |= {404}
    if route.caller != "anybody":
        found |= {401}
    if route.caller not in ("anybody", *AGENT_CALLERS):
        found |= {403}
    if route.caller in AGENT_CALLERS:
        found |= {429}
    if AGENT_CALLERS.get(route.caller) == "agent":
        found |= {410}
    if route.body is not None:
        found |= {415, 422}
    if route.query is not None:
        found |= {422}
    return sorted(found)


def _response(route: Route, status: int, refs: Any) -> dict[str, Any]:
    headers = {"X-Openstack-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    if status in (429, 503):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status == 204:
        return {"description": "Nothing to say", "headers": headers}
    if status >= 400:
        schema = {"$ref": _REF.format(model="Errors")}
        content = {"application/json": {"schema": schema}}
        return {"description": TITLES[status], "headers": headers, "content": content}
    content = {kind: {"schema": {"type": "string"}} for kind in route.streams}
    if route.shows is not None:
        content["application/json"] = {"schema": refs[route.shows, "validation"]}
    return {"description": "Done", "headers": headers, "content": content}
