# SPDX-License-Identifier: Apache-2.0
"""Rows: the table of what Heat's software deployments do and what ours do, each row with the check that shows it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devcloud.cloud import DevCloud
    from devcloud.stacks import Stack, Stacks
    from heat_workflow.client import Client
    from heat_workflow.shapes import Task
    from tests.harness.hot import Hot

Facts = dict[str, Any]


@dataclasses.dataclass
class Room:
    """What a check has to work with. ``facts_of`` plays a scenario once, however many rows look at what it found."""

    hot: Hot
    cloud: DevCloud
    stacks: Stacks
    api: Client
    tasks_of: Callable[[Stack], list[Task]]
    path: pathlib.Path
    _facts: dict[str, Facts] = dataclasses.field(default_factory=dict)

    def facts_of(self, scenario: Callable[[Room], Facts]) -> Facts:
        """What the scenario found; it is played once."""
        if scenario.__name__ not in self._facts:
            self._facts[scenario.__name__] = {}
            self._facts[scenario.__name__] = scenario(self)
        return self._facts[scenario.__name__]


@dataclasses.dataclass(frozen=True)
class Row:
    """One behaviour. ``differs`` says in words how ours is other on purpose; empty: ours is as Heat's."""

    section: str
    what: str
    heat: str
    differs: str
    check: Callable[[Room], None]

    @property
    def name(self) -> str:
        return self.check.__name__


ROWS: list[Row] = []
SECTIONS = {
    "resources": "Resources, properties and attributes",
    "values": "Inputs and outputs",
    "signals": "Signals, and what the guest is told",
    "again": "When a deployment runs again",
    "ending": "Delete, cancel and results",
    "stack": "Other stack operations",
}

Check = Callable[[Room], None]


def row(section: str, what: str, heat: str, differs: str = "") -> Callable[[Check], Check]:
    """Put a check into the table, with its row's words."""

    def add(check: Check) -> Check:
        ROWS.append(Row(section, what, heat, differs, check))
        return check

    return add
