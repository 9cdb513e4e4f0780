# SPDX-License-Identifier: Apache-2.0
"""Sizes: what a request to add tasks comes to, told before anything of it is made.

A fan-out has one definition, which is stored once, but each of its members keeps what was asked for beside it: a
request of 1 MiB for ten thousand servers comes to 10 GiB. So the members are multiplied first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from heat_workflow import errors, model
from heat_workflow.model import Json, NewTask, Usage
from heat_workflow.taskqueue import building

REQUEST_MOST = 32 * 1024 * 1024  # bytes that the tasks of one request may come to
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def check_request(requests: Sequence[NewTask]) -> None:
    """TooLarge for tasks that come to more than one request may add, whatever the project's quota is."""
    size = sum(_members(request) * (model.TASK_ROW + _kept(request)) for request in requests)
    if size > REQUEST_MOST:
        raise errors.TooLarge(
            f"the request comes to {size} bytes in {_count(requests)} tasks, more than {REQUEST_MOST}: each server of "
            "a fan-out keeps its own input values and undo. Put what all share into the definition's config, or ask "
            "for fewer servers at once",
            code="fan-out",
        )


def growth_of(requests: Sequence[NewTask]) -> Usage:
    """What these tasks add at least to what their project keeps; hidden values, kept for a while only, are left out."""
    own = sum(_members(request) * (model.TASK_ROW + len(_written(_counted(request)))) for request in requests)
    shared = {building.digest(request.definition): request.definition for request in requests}
    return Usage(tasks=_count(requests), bytes=own + sum(len(_written(definition)) for definition in shared.values()))


def _count(requests: Sequence[NewTask]) -> int:
    return sum(_members(request) for request in requests)


def _members(request: NewTask) -> int:
    return 1 if request.servers is None else len(request.servers)


def _kept(request: NewTask) -> int:
    """Bytes of what each member keeps, its hidden values too."""
    return len(_written([{**request.spec}, list(request.requires), list(request.capabilities)]).encode())


def _counted(request: NewTask) -> dict[str, Json]:
    """What each member keeps, without hidden values and those that it fills in for itself."""
    values, hidden = request.spec.get("input_values"), building.hidden_inputs(request)
    kept: dict[str, Json] = {
        name: "" if name in hidden or (isinstance(value, dict) and "get_server" in value) else value
        for name, value in (values.items() if isinstance(values, dict) else ())
    }
    return {**request.spec, "requires": list(request.requires), "input_values": kept}


def _written(value: object) -> str:
    return _ENCODER.encode(value)
