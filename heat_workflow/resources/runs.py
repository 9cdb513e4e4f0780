# SPDX-License-Identifier: Apache-2.0
"""Runs: which tasks a Heat resource has added, kept in the resource's own data."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

DATA_KEY = "heat_workflow_runs"
APPLYING = frozenset({"CREATE", "UPDATE"})


@dataclasses.dataclass(frozen=True)
class Run:
    """One task that one action of the resource added; ``digest`` says for what."""

    task_id: str
    action: str
    digest: str


@dataclasses.dataclass(frozen=True)
class Runs:
    """The runs of a resource that are still attached to it, oldest first, and the workflow they are in.

    It is saved before the request that uses it (a crash in between is settled by repeating the request), and it is
    part of what Heat hands over when a stack is abandoned and adopted.
    """

    workflow_id: str
    runs: tuple[Run, ...] = ()

    @property
    def latest(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @property
    def applied(self) -> Run | None:
        """The latest run that put the definition into effect, as opposed to SUSPEND, RESUME and DELETE."""
        return next((run for run in reversed(self.runs) if run.action in APPLYING), None)

    def with_run(self, run: Run, in_effect: Run | None = None) -> Runs:
        """These runs and a new one, without those that nobody needs any more.

        Kept are the latest (its attributes count if the new one never runs), the last that was to be applied, and the
        one in effect if that is an earlier one: it is what there is to undo if no later run succeeds.
        """
        kept = tuple(old for old in self.runs if old in (self.latest, self.applied, in_effect))
        return dataclasses.replace(self, runs=(*kept, run))

    def dropped_by(self, newer: Runs) -> tuple[Run, ...]:
        """The runs that the newer record has let go of."""
        return tuple(run for run in self.runs if run not in newer.runs)


def find_runs(resource: Any) -> Runs | None:
    """What the resource's data says, None if it has never added a task. Its physical id must be set."""
    return parse_runs(resource.data().get(DATA_KEY), resource.resource_id)


def parse_runs(text: str | None, owner: str) -> Runs | None:
    """The record in this text, None unless it is the owner's."""
    stored = json.loads(text) if text else {}
    # Heat on SQLite gives the row number of a deleted resource, and with it the data left behind, to a new one.
    if stored.get("owner") != owner:
        return None
    return Runs(stored["workflow_id"], tuple(Run(**run) for run in stored["runs"]))


def save_runs(resource: Any, runs: Runs) -> None:
    """Write the record to Heat's database, in one row."""
    stored = {"owner": resource.resource_id, **dataclasses.asdict(runs)}
    resource.data_set(DATA_KEY, json.dumps(stored))
