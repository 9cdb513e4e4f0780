# SPDX-License-Identifier: Apache-2.0
"""Page: the table of parity as a page of the user guide. Run it after changing a row: python -m <this module>."""

from __future__ import annotations

import pathlib
import textwrap

from tests.heat_engine.parity import again, ending, resources, values
from tests.heat_engine.parity.rows import ROWS, SECTIONS

PATH = pathlib.Path(__file__).parents[3] / "doc" / "source" / "user" / "parity.rst"
MODULES = (resources, values, again, ending)  # importing them fills the table

HEAD = """\
.. Made from the table in tests/heat_engine/parity; run python -m tests.heat_engine.parity.page after a change there.

===============================================
What Heat's software deployments do, and ours
===============================================

Every row is shown inside a real Heat by ``tests/heat_engine/test_parity.py``. Where the last column is empty, ours
does as Heat does.
"""


def render() -> str:
    """The page as it should stand in the user guide."""
    parts = [HEAD]
    for section, title in SECTIONS.items():
        rows = [row for row in ROWS if row.section == section]
        parts.append(f"{title}\n{'=' * len(title)}\n\n.. list-table::\n   :header-rows: 1\n   :widths: 26 37 37\n")
        parts.append(_line(("what", "Heat", "ours differs on purpose")))
        parts += [_line((row.what, row.heat, row.differs)) for row in rows]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _line(cells: tuple[str, ...]) -> str:
    texts = ["\n       ".join(textwrap.wrap(cell, 108)) or "" for cell in cells]
    return "\n".join([f"   * - {texts[0]}".rstrip(), *(f"     - {text}".rstrip() for text in texts[1:])])


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render())
