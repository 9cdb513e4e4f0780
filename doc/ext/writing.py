# SPDX-License-Identifier: Apache-2.0
"""Writing: put generated pages where Sphinx finds them; called by the conf.py of each tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write(folder: Path, pages: Mapping[str, str]) -> None:
    """Make the folder hold these pages and no others; a page that is as it was keeps its time."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
