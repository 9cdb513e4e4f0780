# SPDX-License-Identifier: Apache-2.0
"""Unit: released agents, each under the digest of its bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from heat_workflow import errors
from heat_workflow.releases import Releases


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_where_there_is_no_directory_there_is_no_release(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "none")
    assert releases.digests() == []
    assert releases.find_current() is None
    assert releases.find("0" * 64) is None


def test_what_is_added_is_found_by_its_digest_and_is_current(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "made")
    digest = releases.add(b"one")
    assert digest == digest_of(b"one")
    found = releases.find(digest)
    assert found is not None
    assert found.read_bytes() == b"one"
    assert found.stat().st_mode & 0o777 == 0o644
    assert releases.find_current() == digest


def test_the_newest_is_listed_first_and_other_files_not_at_all(tmp_path: Path) -> None:
    releases = Releases(tmp_path)
    old, new = releases.add(b"old"), releases.add(b"new")
    os.utime(tmp_path / f"{old}.pyz", (1, 1))
    (tmp_path / "readme.pyz").touch()
    (tmp_path / f"{old}.pyz.new").touch()
    assert releases.digests() == [new, old]


def test_a_current_one_that_was_removed_is_none(tmp_path: Path) -> None:
    releases = Releases(tmp_path)
    (tmp_path / f"{releases.add(b'one')}.pyz").unlink()
    assert releases.find_current() is None


@pytest.mark.parametrize("name", ["", "current", "../current", "0" * 63, "0" * 65, "A" * 64, f"{'0' * 63}/"])
def test_only_a_digest_is_looked_for(tmp_path: Path, name: str) -> None:
    inside = Releases(tmp_path / "inside")
    inside.add(b"one")
    for place in (tmp_path, tmp_path / "inside"):
        (place / "current.pyz").touch()
        (place / f"{'A' * 64}.pyz").touch()
    assert inside.find(name) is None
    with pytest.raises(errors.NotFound, match=digest_of(b"one")):
        inside.make_current(name)
