# SPDX-License-Identifier: Apache-2.0
"""Facts of a group: what was loaded for its turns, and what the turns have made of it so far. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from heat_workflow import model


class AloneError(Exception):
    """The turn asks for what groups do not load; it is to run in a transaction of its own, from the beginning."""


class LaterError(Exception):
    """What the turn needs is locked elsewhere, or was taken a moment ago; the next group looks again."""


@dataclasses.dataclass
class Pool:
    """Ready tasks of one project and route, the most urgent first."""

    ids: list[str]
    more: bool  # whether there may be more than were loaded
    elsewhere: bool = False  # whether some of them belong to workflows that this group has not locked


@dataclasses.dataclass
class Counters:
    """Where a locked workflow's sums stand."""

    event_seq: int
    byte_count: int


@dataclasses.dataclass
class Facts:
    """By key. A key that is missing was not loaded; None says that there is no such row."""

    now: float
    agents: dict[str, model.Agent | None] = dataclasses.field(default_factory=dict)
    claims: dict[tuple[str, str], model.Attempt | None] = dataclasses.field(default_factory=dict)
    workflows: dict[str, model.Workflow] = dataclasses.field(default_factory=dict)  # those that are locked
    counters: dict[str, Counters] = dataclasses.field(default_factory=dict)
    tasks: dict[str, model.Task | None] = dataclasses.field(default_factory=dict)
    attempts: dict[tuple[str, int], model.Attempt | None] = dataclasses.field(default_factory=dict)
    dependants: dict[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # the waiting ones
    requirements: dict[str, Sequence[tuple[str, model.TaskState]]] = dataclasses.field(default_factory=dict)
    unfinished: dict[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # some of each workflow
    pools: dict[tuple[str, str], Pool] = dataclasses.field(default_factory=dict)
    definitions: Mapping[tuple[str, str], dict[str, Any]] = dataclasses.field(default_factory=dict)
    keys: dict[tuple[str, str], str | None] = dataclasses.field(default_factory=dict)  # their holders
    ready_with_key: dict[tuple[str, str], Sequence[str]] = dataclasses.field(default_factory=dict)
    stalled: set[str] | None = None  # agents that hold a stalled task; None: nobody has looked
