# SPDX-License-Identifier: Apache-2.0
"""Repeating: a resource that knows whether Heat says suspend or resume once more, after it did not come to its end.

Heat does so only after an engine died, or a resource failed, in the middle of it: a stack that is suspended already is
not suspended again. What ran then counts, and is not run a second time (G22).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heat.engine import resource


class Repeating(resource.Resource):  # type: ignore[misc]
    """Base of resources that add a task for suspend and resume."""

    _repeated: str | None = None  # the action under way, if the one before was the same

    def suspend(self) -> Iterator[Any]:
        self._note(self.SUSPEND)
        yield from super().suspend()

    def resume(self) -> Iterator[Any]:
        self._note(self.RESUME)
        if self.state == (self.RESUME, self.IN_PROGRESS):
            # Its engine died: this one holds the stack's lock. Heat would refuse to resume it ever again.
            self.status = self.FAILED
        yield from super().resume()

    def _note(self, action: str) -> None:
        """To be called before Heat's own part, which writes the new action over the one before."""
        self._repeated = action if self.action == action else None
