# SPDX-License-Identifier: Apache-2.0
"""The table of the security page: everybody who might attack has a row, and the tests that it names are there."""

from __future__ import annotations

import re

import pytest

from doc.ext import promises
from tests.docs.pages import ADMIN

PAGE = (ADMIN / "security.rst").read_text()
TABLE = PAGE[PAGE.index("Tests that show it") : PAGE.index("What a stolen secret can do\n")]
ROWS = dict(re.findall(r"^   \* - ([^\n]+)\n(.*?)(?=^   \* - |\Z)", TABLE, re.MULTILINE | re.DOTALL))
WHO = (
    "reader of the project",
    "member of the project",
    "root of a guest",
    "another user of a guest",
    "thief of a disk, or of its snapshot",
    "thief of a credential",
    "thief of a join token",
    "stranger",
    "neighbour project",
    "reader of the database, of a backup",
)


def test_everybody_has_a_row() -> None:
    assert tuple(ROWS) == WHO


@pytest.mark.parametrize("who", WHO)
def test_what_stops_them_is_shown_by_tests_that_are_there(who: str) -> None:
    named = re.findall(r"``(test_\w+)``", ROWS[who])
    assert len(named) >= 2
    assert [name for name in named if name not in promises.files_of_tests()] == []
