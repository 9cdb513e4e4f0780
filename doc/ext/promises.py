# SPDX-License-Identifier: Apache-2.0
"""Promises: which test proves which of the numbered promises, found by the numbers in the names of tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from doc.ext import rst

ROOT = Path(__file__).resolve().parents[2]
PROMISES = ROOT / "doc" / "source" / "contributor" / "promises.yaml"
LETTERS = {"G": "guarantees", "R": "rules", "I": "invariants", "F": "faults", "S": "attacks", "Q": "queue"}
NOT_YET = "*not yet*"
_NUMBERS = re.compile(r"test_((?:[fgiqrs]\d+_(?:to_)?)+)")
_NUMBER = re.compile(r"([fgiqrs])(\d+)_(to_)?")


def promises() -> dict[str, tuple[str, list[str]]]:
    """Number -> promise, and what else proves it: other numbers, or tests whose names carry none. In order."""
    read = yaml.safe_load(PROMISES.read_text())
    return {
        number: (entry, []) if isinstance(entry, str) else (entry["says"], entry["by"])
        for number, entry in read.items()
    }


def files_of_tests(tests: Path = ROOT / "tests") -> dict[str, str]:
    """Test -> file."""
    return {
        node.name: str(path.relative_to(tests.parent))
        for path in sorted(tests.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def proofs(tests: Path = ROOT / "tests") -> dict[str, list[str]]:
    """Number -> tests whose names begin with it."""
    found: dict[str, list[str]] = {}
    for test in files_of_tests(tests):
        for number in numbers(test):
            found.setdefault(number, []).append(test)
    return found


def numbers(test: str) -> Iterator[str]:
    """The numbers at the beginning of a test's name; ``i1_to_i8`` means all of them."""
    match = _NUMBERS.match(test)
    start = 0
    for letter, digits, to in _NUMBER.findall(match[1]) if match else ():
        number = int(digits)
        for between in range(start + 1 if start else number, number + 1):
            yield f"{letter.upper()}{between}"
        start = number if to else 0


def pages() -> dict[str, str]:
    """One table for each letter."""
    proven, files = proofs(), files_of_tests()
    rows: dict[str, list[tuple[str, str, str]]] = {letter: [] for letter in LETTERS}
    for number, (text, by) in promises().items():
        own = [*proven.get(number, []), *(name for name in by if name not in promises())]
        others = [name for name in by if name in proven]
        rows[number[0]].append((number, text, _cell(own, others, files)))
    return {
        f"{kind}.rst": rst.table(
            ("", "Promise" if letter in "GRIQ" else "What happens", "Proof"), rows[letter], (6, 44, 50)
        )
        for letter, kind in LETTERS.items()
    }


def _cell(own: list[str], others: list[str], files: dict[str, str]) -> str:
    by_file: dict[str, list[str]] = {}
    for test in own:
        by_file.setdefault(files[test], []).append(f"``{test}``")
    said = [f"``{file}``: {', '.join(names)}" for file, names in by_file.items()]
    said += [f"see {', '.join(others)}"] if others else []
    return "; ".join(said) or NOT_YET
