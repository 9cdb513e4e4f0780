# SPDX-License-Identifier: Apache-2.0
"""Undo order: which undos wait for which, decided without I/O and in time that grows with the edges.

What was built on a task is taken back before the task. Each undo waits for those next to it alone; the others follow
from that. A task without an undo passes the order on: from the undos before it to the one behind it, or through a
barrier of its own where there are many on both sides, since each of many waiting for each of many would be their
product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

Dependants = Mapping[str, Collection[str]]  # by task id, what was built on it


@dataclasses.dataclass(frozen=True)
class Step:
    """One undo, by the id of the task that it takes back, or a barrier in that task's place.

    ``after`` are the steps it waits for; all of them stand before it.
    """

    task_id: str
    after: Sequence[str]
    barrier: bool = False


def steps(
    task_ids: Sequence[str], dependants: Dependants, chosen: Collection[str], under_way: Collection[str] = ()
) -> list[Step]:
    """The undos of the chosen tasks, each behind those of everything that was built on its task.

    ``task_ids`` are all tasks, the oldest first. Those ``under_way`` have an undo already: it is waited for and waits
    for nothing more. Edges that Heat told may go round in a circle: in one the youngest is taken back first, and so on.
    """
    circles = _circles(task_ids, dependants)
    place = {task_id: n for n, circle in enumerate(circles) for task_id in circle}
    built_on = [
        sorted({place[other] for task_id in circle for other in dependants.get(task_id, ()) if other in place} - {n})
        for n, circle in enumerate(circles)
    ]
    users = [0] * len(circles)
    for n in (n for behind in built_on for n in behind):
        users[n] += 1
    found: list[Step] = []
    ends: list[dict[str, None]] = []  # by circle, the steps that stand for it and all before it
    for n, circle in enumerate(circles):
        before = _union([(ends[other], users[other] == 1) for other in built_on[n]])
        present = [task_id for task_id in circle if task_id in under_way]
        before.update(dict.fromkeys(present))
        for task_id in (task_id for task_id in circle if task_id in chosen):
            found.append(Step(task_id, list(before)))
            before = {task_id: None}
        if not present and len(before) * users[n] > len(before) + users[n]:
            found.append(Step(circle[0], list(before), barrier=True))
            before = {circle[0]: None}
        ends.append(before)
    return found


def _union(parts: Iterable[tuple[dict[str, None], bool]]) -> dict[str, None]:
    """All steps, each once. A part that nobody else needs, which its flag says, may be taken for the whole: to copy
    the growing parts of a long chain would take the square of its length."""
    whole: dict[str, None] = {}
    for part, own in parts:
        if own and len(part) > len(whole):
            whole, part = part, whole
        whole.update(part)
    return whole


def _circles(task_ids: Sequence[str], dependants: Dependants) -> list[list[str]]:
    """The tasks that are built on each other in a circle together, mostly each alone, the youngest first; a circle
    behind everything that was built on it (Tarjan's strongly connected components, which come in that order)."""
    age = {task_id: n for n, task_id in enumerate(task_ids)}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    open_: set[str] = set()
    circles: list[list[str]] = []
    for root in reversed(task_ids):
        ahead = [] if root in number else [(root, iter(_known(root, dependants, age)))]
        while ahead:
            task_id, others = ahead[-1]
            if task_id not in number:
                number[task_id] = low[task_id] = len(number)
                stack.append(task_id)
                open_.add(task_id)
            other = next((one for one in others if one not in number or one in open_), None)
            if other is None:
                ahead.pop()
                if ahead:
                    low[ahead[-1][0]] = min(low[ahead[-1][0]], low[task_id])
                if low[task_id] == number[task_id]:
                    circles.append(_popped(stack, task_id, open_, age))
            elif other in number:
                low[task_id] = min(low[task_id], number[other])
            else:
                ahead.append((other, iter(_known(other, dependants, age))))
    return circles


def _known(task_id: str, dependants: Dependants, age: Mapping[str, int]) -> list[str]:
    return sorted((other for other in dependants.get(task_id, ()) if other in age), key=age.__getitem__, reverse=True)


def _popped(stack: list[str], last: str, open_: set[str], age: Mapping[str, int]) -> list[str]:
    circle: list[str] = []
    while not circle or circle[-1] != last:
        circle.append(stack.pop())
        open_.discard(circle[-1])
    return sorted(circle, key=age.__getitem__, reverse=True)
