# SPDX-License-Identifier: Apache-2.0
"""Batches: how a fan-out rolls over its servers. Its state is the tasks' own, so it survives everything they do."""

from __future__ import annotations

from collections.abc import Mapping

from heat_workflow.model import Json, TaskState

_FAILED = (TaskState.FAILED.value, TaskState.TIMED_OUT.value)


def index_of(spec: Mapping[str, Json], position: int) -> int | None:
    """The batch a member at this position belongs to, from 0; None if the fan-out is not rolled."""
    batch = spec.get("batch")
    return position // int(_number(batch, "max_size", 1)) if isinstance(batch, dict) else None


def max_errors(spec: Mapping[str, Json]) -> int:
    """Failed members that do not stop the fan-out, counted over the whole run."""
    return int(_number(spec.get("batch"), "max_errors", 0))


def pause(spec: Mapping[str, Json]) -> float:
    """Seconds between the end of a batch and the start of the next."""
    return _number(spec.get("batch"), "pause", 0)


def failures(counts: Mapping[str, int]) -> int:
    """Failed members, from a count by state."""
    return sum(counts.get(state, 0) for state in _FAILED)


def _number(batch: Json, field: str, default: float) -> float:
    value = batch.get(field) if isinstance(batch, dict) else None
    return float(value) if isinstance(value, (int, float)) else default
