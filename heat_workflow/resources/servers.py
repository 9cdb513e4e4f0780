# SPDX-License-Identifier: Apache-2.0
"""Servers: the map of names to server IDs that groups and fan-outs take, and what is wrong with one in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heat.engine import constraints, function, properties

from heat_workflow.resources.known import resolved

NO_MAP = (
    "servers is a map of names to IDs; use refs_map, the attribute of a group that gives it, or write {name: ID, ...}"
)


class ServersMap(constraints.Constraint):  # type: ignore[misc]
    """Says why a value is no map of servers. Heat gives a list, which the schema lets through, as JSON text."""

    valid_types = (constraints.Schema.MAP_TYPE,)

    def _is_valid(self, value: Any, schema: Any, context: Any) -> bool:
        return wrong_servers(value) is None

    def _err_msg(self, value: Any) -> str:
        return str(wrong_servers(value))

    def _str(self) -> str:
        return "A map of names to IDs, such as ``refs_map`` of an ``OS::Heat::ResourceGroup``"

    def _constraint(self) -> dict[str, Any]:
        return {}


def servers_schema(description: str, **more: Any) -> Any:
    """The schema of such a property; a list is let through for the constraint to say what is to be written."""
    kind = properties.Schema.MAP
    return properties.Schema(kind, description, constraints=[ServersMap()], allow_conversion=True, **more)


def servers_of(value: Any) -> dict[str, str]:
    """The IDs by name, as far as the value has any: what was refused when it was resolved may still be deleted."""
    return {str(name): str(server) for name, server in value.items()} if isinstance(value, Mapping) else {}


def wrong_servers(value: Any) -> str | None:
    """Why the value is no map of servers, None if it is one. What a resource is to fill in may be empty yet."""
    if value is None or isinstance(value, function.Function):
        return None
    if not isinstance(value, Mapping):
        return NO_MAP
    for name, server in value.items():
        if not isinstance(server, function.Function) and not _is_id(server):
            return f"servers: {name} has no ID but {json.dumps(resolved(server, True), default=str)[:80]}"
    return None


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
