# SPDX-License-Identifier: Apache-2.0
"""Definitions: what a software config asks for, made into what a task of one action carries."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from heat.common import exception
from heat.objects import software_config
from heat.rpc import api as rpc_api

from heat_workflow.shapes import Definition, Json

UNGROUPED = "Heat::Ungrouped"
COMPONENT = "component"
_FIELDS = (
    rpc_api.SOFTWARE_CONFIG_GROUP,
    rpc_api.SOFTWARE_CONFIG_CONFIG,
    rpc_api.SOFTWARE_CONFIG_OPTIONS,
    rpc_api.SOFTWARE_CONFIG_INPUTS,
    rpc_api.SOFTWARE_CONFIG_OUTPUTS,
)
_GROUP = re.compile(r"[A-Za-z0-9_.:-]{1,255}", re.ASCII)


class UnknownConfig(exception.HeatException):  # type: ignore[misc]
    """The config id names nothing that this project may read."""

    msg_fmt = (
        "task %(task)s: there is no software config with id %(config)s in this project; give the id of an "
        "OS::Heat::SoftwareConfig (get_resource), or write the config itself as 'definition'"
    )


def read_config(resource: Any, config_id: str) -> Definition:
    """The software config with this id, as Heat's API shows it; UnknownConfig if the project has none.

    It is read from Heat's database, as the RPC call for it would do in some engine: the detour costs 5 to 40 ms, and
    every task pays it.
    """
    try:
        stored = software_config.SoftwareConfig.get_by_id(resource.context, config_id)
    except exception.NotFound as failure:
        raise UnknownConfig(task=resource.name, config=config_id) from failure
    return as_definition({**stored.config, rpc_api.SOFTWARE_CONFIG_GROUP: stored.group})


def as_definition(fields: Mapping[str, Any]) -> Definition:
    """The fields of a definition and nothing else, with what was left out filled in."""
    given = {name: fields[name] for name in _FIELDS if fields.get(name) is not None}
    whole: dict[str, Any] = {"group": UNGROUPED, "config": "", "options": {}, "inputs": [], "outputs": [], **given}
    for side in ("inputs", "outputs"):
        whole[side] = [{key: value for key, value in io.items() if value is not None} for io in whole[side]]
    return cast(Definition, whole)


def group_error(group: str) -> str | None:
    """Why a group name is none, in words; whether there is a hook for it only the agent knows."""
    if _GROUP.fullmatch(group):
        return None
    return f"config group {group!r} is no group name: it may hold letters, digits and _ . : - only"


def nothing_to_run(definition: Definition) -> str | None:
    """Why no hook will run this, in words; None if one may."""
    if definition["group"] != UNGROUPED:
        return None
    if definition["config"] or definition["inputs"] or definition["outputs"]:
        return f"nothing to run: the group of its config is {UNGROUPED}; give that of a hook, such as script"
    return "nothing to run: it has neither 'config' nor 'definition', or an empty one"


def for_action(definition: Definition, action: str, actions: Iterable[str]) -> Definition | None:
    """The part of the definition that this action runs, None if it runs nothing.

    A component says itself what it runs when; for every other group the resource's ``actions`` do.
    """
    if definition["group"] != COMPONENT:
        return definition if action in actions else None
    entries = cast("Mapping[str, Any]", definition["config"])["configs"]
    for entry in entries:
        if action in entry["actions"]:
            return {**definition, "group": entry["tool"], "config": entry.get("config") or ""}
    return None


def with_values(definition: Definition, values: Mapping[str, Json], derived: Mapping[str, Json]) -> Definition:
    """The definition with every value declared: what the template passes undeclared is a String, as in Heat."""
    declared = {str(io["name"]) for io in definition["inputs"]}
    added: list[dict[str, Json]] = [
        {"name": name, "type": "String"} for name in (*values, *derived) if name not in declared
    ]
    return {**definition, "inputs": [*definition["inputs"], *added]}


def replacing_inputs(definition: Definition) -> list[str]:
    """The inputs whose change asks for a new resource instead of an update."""
    return [str(io["name"]) for io in definition["inputs"] if io.get("replace_on_change")]


def default_of(definition: Definition, name: str) -> Json:
    """The declared default of an input, None if there is none."""
    return next((io.get("default") for io in definition["inputs"] if io["name"] == name), None)


def digest_of(*parts: object) -> str:
    """A short name for exactly these values, equal whenever they are."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
