# SPDX-License-Identifier: Apache-2.0
"""Pages: what the documents say, taken out of their text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
API_REF = ROOT / "api-ref" / "source"
ADMIN = ROOT / "doc" / "source" / "admin"
_LITERAL = re.compile(r"``(.+?)``", re.DOTALL)
_BLOCK = re.compile(r"^( *)(?:\.\. code-block:: *(\w+)|.*::) *\n((?:\1 +.*\n|\s*\n)+)", re.MULTILINE)


_MADE = {"generated", "types"}  # folders of pages that the build makes


def pages() -> list[Path]:
    """Every page that people write, and the front pages."""
    trees = [ROOT / "doc" / "source", ROOT / "api-ref" / "source"]
    written = [page for tree in trees for page in tree.rglob("*.rst") if _MADE.isdisjoint(page.parts)]
    return sorted([*written, *ROOT.glob("*.rst")])


def literals(page: Path) -> list[str]:
    return [" ".join(text.split()) for text in _LITERAL.findall(page.read_text())]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language ("" where none is said) and text of each block of code."""
    for _, language, text in _BLOCK.findall(page.read_text()):
        yield language, textwrap.dedent(text).strip("\n")


def commands(page: Path, program: str) -> list[str]:
    """The command lines that begin with the program, in blocks and in the text."""
    lines = [line for language, text in blocks(page) if language in ("", "console") for line in text.splitlines()]
    found = [line.partition(" # ")[0].strip() for line in lines] + literals(page)
    return [line for line in found if line == program or line.startswith(f"{program} ")]
