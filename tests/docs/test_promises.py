# SPDX-License-Identifier: Apache-2.0
"""The page of guarantees: no test claims a number that there is not, no number is without a row."""

from __future__ import annotations

from pathlib import Path

from doc.ext import promises

MOST = {"G": 30, "R": 5, "I": 8, "F": 54, "S": 81, "Q": 17}


def test_every_number_has_a_promise() -> None:
    assert list(promises.promises()) == [
        f"{letter}{number}" for letter in MOST for number in range(1, MOST[letter] + 1)
    ]


def test_no_test_proves_a_number_that_nobody_promised() -> None:
    unknown = {number: tests for number, tests in promises.proofs().items() if number not in promises.promises()}
    assert unknown == {}


def test_what_a_promise_names_as_its_proof_is_there() -> None:
    tests, proven = promises.files_of_tests(), promises.proofs()
    for number, (_, by) in promises.promises().items():
        assert [name for name in by if name not in tests and name not in proven] == [], number


def test_the_tables_show_every_promise_with_its_proofs_or_that_there_is_none_yet() -> None:
    tables, files, proven = "".join(promises.pages().values()), promises.files_of_tests(), promises.proofs()
    missing = 0
    for number, (_, by) in promises.promises().items():
        assert f"   * - {number}\n" in tables
        missing += not by and number not in proven
    for test in {test for tests in proven.values() for test in tests}:
        assert f"``{test}``" in tables
        assert f"``{files[test]}``" in tables
    assert tables.count(promises.NOT_YET) == missing
    assert len(proven) > 80


def test_numbers_are_read_from_names(tmp_path: Path) -> None:
    assert list(promises.numbers("test_f39_g2_late")) == ["F39", "G2"]
    assert list(promises.numbers("test_f49_i1_to_i3_hold")) == ["F49", "I1", "I2", "I3"]
    assert list(promises.numbers("test_something_else")) == []
    (tmp_path / "test_x.py").write_text("class T:\n    async def test_s7_x(self): ...\n")
    assert promises.proofs(tmp_path)["S7"] == ["test_s7_x"]
