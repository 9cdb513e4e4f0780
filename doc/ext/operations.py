# SPDX-License-Identifier: Apache-2.0
"""Operations: the parts of the API reference that the contract document and the samples already say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import heat_workflow
from doc.ext import rst
from heat_workflow.api import openapi
from heat_workflow.api.app import routes

SOURCE = Path(__file__).resolve().parents[2] / "api-ref" / "source"
SAMPLES = SOURCE / "samples"
_GOOD = range(200, 300)
_TOKENS = {
    "keystone": "``X-Auth-Token``: a keystone token scoped to a project",
    "agent": "``Authorization: Bearer hwa1.<agent id>.<secret>``, the agent's credential",
    "join-token": "``Authorization: Bearer hwj1.<agent id>.<secret>``, the join token",
}


def contract() -> dict[str, Any]:
    """The OpenAPI document that both halves serve."""
    return openapi.document(routes(["operator", "guest"]), heat_workflow.__version__)


def operations(document: Mapping[str, Any]) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Name -> (method, path, operation)."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def meanings() -> dict[str, str]:
    """What a field means, by its name or by ``Model.name`` where one model differs."""
    told: dict[str, str] = yaml.safe_load((SOURCE / "parameters.yaml").read_text())
    return told


def pages() -> dict[str, str]:
    """File name -> text, for every operation and every model."""
    document, told = contract(), meanings()
    found = {f"{name}.rst": _operation(name, *parts, told) for name, parts in operations(document).items()}
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            found[f"model-{name}.rst"] = _fields(name, schema, told)
    return found


def _operation(name: str, method: str, path: str, operation: Mapping[str, Any], told: Mapping[str, str]) -> str:
    parts = [rst.heading(operation["summary"], "-"), rst.code("text", f"{method} {path}")]
    parts.append(_caller(operation))
    queries = [parameter for parameter in operation["parameters"] if parameter["in"] == "query"]
    if queries:
        rows = [(f"``{one['name']}``", *_kind(one["schema"]), told[one["name"]]) for one in queries]
        parts.append(rst.table(("Query", "Type", "Default", "Meaning"), rows, (18, 24, 12, 46)))
    parts.append(_answers(operation["responses"]))
    parts.append(_sample(json.loads((SAMPLES / f"{name}.json").read_text())))
    return "\n".join(parts)


def _caller(operation: Mapping[str, Any]) -> str:
    schemes = [scheme for requirement in operation.get("security", []) for scheme in requirement]
    if not schemes:
        return "For anybody, without a token.\n"
    who = f"{_TOKENS[schemes[0]]}."
    return f"{who} {operation['description'].replace('`', '``')}\n" if "description" in operation else f"{who}\n"


def _answers(responses: Mapping[str, Any]) -> str:
    good = [status for status in responses if int(status) in _GOOD]
    bad = [status for status in responses if int(status) not in _GOOD]
    kinds = {kind for status in good for kind in responses[status].get("content", {}) if kind != "application/json"}
    streams = f" Also as {', '.join(f'``{kind}``' for kind in sorted(kinds))}." if kinds else ""
    return f"Answers {', '.join(good)}.{streams} Refusals {', '.join(bad)}.\n"


def _sample(sample: Mapping[str, Any]) -> str:
    request, answer = sample["request"], sample["answer"]
    parts = [f"Sample: ``{request['method']} {request['path']}``\n"]
    if "body" in request:
        parts.append(rst.code("json", json.dumps(request["body"], indent=2, ensure_ascii=False)))
    said = "" if "body" in answer or "text" in answer else ", without a body"
    parts.append(f"Answer {answer['status']}{said}{':' if not said else '.'}\n")
    if "body" in answer:
        parts.append(rst.code("json", json.dumps(answer["body"], indent=2, ensure_ascii=False)))
    if "text" in answer:
        parts.append(rst.code("text", "\n".join(answer["text"])))
    return "\n".join(parts)


def _fields(model: str, schema: Mapping[str, Any], told: Mapping[str, str]) -> str:
    required = set(schema.get("required", ()))
    rows = []
    for name, field in schema["properties"].items():
        meaning = field.get("description") or told.get(f"{model}.{name}") or told[name]
        kind, default = _kind(field)
        rows.append((f"``{name}``", kind, "required" if name in required else default, meaning))
    return rst.table(("Field", "Type", "Default", "Meaning"), rows, (18, 24, 12, 46))


def _kind(schema: Mapping[str, Any]) -> tuple[str, str]:
    """Type and default, in words."""
    default = f"``{json.dumps(schema['default'])}``" if "default" in schema else ""
    return _type(schema), default


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(_type(choice) for choice in choices)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"``{value}``" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}{_bounds(schema, 'minItems', 'maxItems')}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"map to {_type(values)}" if isinstance(values, dict) and values else "map"
    if schema.get("format") in ("uuid", "date-time"):
        return {"uuid": "UUID", "date-time": "moment"}[schema["format"]]
    lowest = "exclusiveMinimum" if "exclusiveMinimum" in schema else "minimum"
    return f"{kind}{_bounds(schema, lowest, 'maximum')}{_bounds(schema, 'minLength', 'maxLength')}"


def _bounds(schema: Mapping[str, Any], low: str, high: str) -> str:
    if low not in schema and high not in schema:
        return ""
    above = ("> " if low == "exclusiveMinimum" else "") + f"{schema[low]:g}" if low in schema else ""
    below = f"{schema[high]:g}" if high in schema and schema[high] < 10**9 else ""
    if not above or not below:
        return f" ({'from ' + above if above else 'at most ' + below})" if above or below else ""
    return f" ({above} to {below})"
