# SPDX-License-Identifier: Apache-2.0
"""Table: what was measured against what was promised, one row a claim."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure. ``goal`` is a bound in the same unit; ``most`` says whether it is an upper or a lower one."""

    claim: str
    measured: float
    unit: str
    goal: float | None = None
    most: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        holds: Callable[[float, float], bool] = operator.le if self.most else operator.ge
        if holds(self.measured, self.goal):
            return "met"
        share = f" ({self.measured / self.goal:.2f} of it)" if self.goal else ""
        return f"missed by {abs(self.measured - self.goal):.3g} {self.unit}{share}"


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(title: str, rows: Sequence[Row]) -> None:
    """Print the rows."""
    print(f"\n{title}")
    width = max(len(row.claim) for row in rows)
    for row in rows:
        bound = "" if row.goal is None else f"{'at most' if row.most else 'at least'} {row.goal:g}"
        line = f"  {row.claim:<{width}}  {row.measured:10.3f} {row.unit:<9} {bound:<16} {row.verdict}"
        print(f"{line}  {row.note}".rstrip(), flush=True)
