# SPDX-License-Identifier: Apache-2.0
"""Rst: the few forms that generated pages are made of."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> str:
    """A list table; every cell is one paragraph of rst, an empty one stays empty."""
    given = " ".join(str(width) for width in widths)
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {given}", ""]
    for row in [head, *rows]:
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {' '.join(cell.split())}".rstrip())
    return "\n".join([*lines, ""])


def code(language: str, text: str) -> str:
    return f".. code-block:: {language}\n\n{textwrap.indent(text.rstrip(), '   ')}\n"


def plain(text: str) -> str:
    """Text that was not written as rst, so that it is shown as it stands."""
    return re.sub(r"([\\*`|]|_(?=\W|$))", r"\\\1", text)
