# SPDX-License-Identifier: Apache-2.0
"""Quotas: how much one project may keep. They hold off abuse, so they may be a few requests late, never wrong.

What a project keeps is the sum over its workflows, each of which counts its own tasks and bytes as they come, so
nothing is scanned to add a task and what is deleted or purged counts no more. The sum is read now and then, and
always before a request is refused.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from heat_workflow import errors
from heat_workflow.model import Usage
from heat_workflow.store import Tx
from heat_workflow.taskqueue import TaskQueue

P = ParamSpec("P")
T = TypeVar("T")
_FRESH = 30.0  # seconds for which a sum is believed
_PROJECTS_MOST = 10_000  # sums remembered; the oldest goes first
_COME_BACK = 60.0  # seconds; by then something may have been purged


@dataclasses.dataclass
class _Sum:
    """What a project kept when it was looked at, and what this process has added since."""

    usage: Usage
    read_at: float


class Quotas:
    """The quotas of every project, as one API process knows them. A limit below 0 is none."""

    def __init__(self, queue: TaskQueue, most: Usage, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._most = most
        self._clock = clock
        self._sums: collections.OrderedDict[str, _Sum] = collections.OrderedDict()

    async def write(
        self, project_id: str, use_case: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As TaskQueue.write, unless what it adds is more than the project may keep.

        TooLarge for what would never fit, TooMany for what does not fit now. What adds nothing, as the repeat of a
        request does, is never refused.
        """
        if max(dataclasses.astuple(self._most)) < 0:
            return await self._queue.write(use_case, *args, **kwargs)

        def admitted(tx: Tx) -> tuple[T, Usage]:
            tx.ceiling = lambda growth: self._admit(kept.usage, growth)
            result = use_case(tx, *args, **kwargs)
            self._admit(kept.usage, tx.growth)
            return result, tx.growth

        known = self._sums.get(project_id)
        fresh = known is None or self._clock() - known.read_at > _FRESH
        kept = await self._look(project_id) if known is None or fresh else known
        try:
            result, added = await self._queue.write(admitted)
        except errors.TooMany as exc:
            if fresh or exc.code != "quota":
                raise
            kept = await self._look(project_id)
            result, added = await self._queue.write(admitted)
        kept.usage = kept.usage + added
        return result

    async def _look(self, project_id: str) -> _Sum:
        def read(tx: Tx) -> Usage:
            return tx.usage(project_id)

        found = self._sums[project_id] = _Sum(await self._queue.read(read), self._clock())
        self._sums.move_to_end(project_id)
        if len(self._sums) > _PROJECTS_MOST:
            self._sums.popitem(last=False)
        return found

    def _admit(self, kept: Usage, added: Usage) -> None:
        for field in dataclasses.fields(Usage):
            most, new = getattr(self._most, field.name), getattr(added, field.name)
            if new and 0 <= most < getattr(kept, field.name) + new:
                raise _over(field.name, most, getattr(kept, field.name), new)


def _over(what: str, most: int, kept: int, new: int) -> errors.HeatWorkflowError:
    asked = f"a project may keep {most} {what} and this request adds {new}"
    if new > most:
        return errors.TooLarge(f"{asked}; ask for less at once, or the operator for a greater quota", code="quota")
    detail = f"{asked} to the {kept} that are there; delete some, or ask the operator for a greater quota"
    return errors.TooMany(detail, code="quota", retry_after=_COME_BACK)
