# SPDX-License-Identifier: Apache-2.0
"""Unit: the agent as one file, the same bytes wherever and whenever it is built."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from heat_workflow import errors
from heat_workflow.cmd import agent_archive, manage

ROOT = Path(__file__).resolve().parents[3]
DIGEST_OF_A_BUILD = (
    "import hashlib; from heat_workflow.cmd.agent_archive import build_agent; "
    "print(hashlib.sha256(build_agent()).hexdigest())"
)


@pytest.fixture(scope="module")
def content() -> bytes:
    return agent_archive.build_agent()


@pytest.fixture(scope="module")
def archive(content: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(content))


def test_two_builds_are_the_same_bytes(content: bytes) -> None:
    assert agent_archive.build_agent() == content


def test_a_build_from_another_directory_at_another_time_by_another_user_is_the_same(
    content: bytes, tmp_path: Path
) -> None:
    for package in ("heat_workflow", "guest_agent"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in tmp_path.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    environment = {**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path), "PYTHONHASHSEED": "7"}
    # The copy, not what is installed: the current directory is the first place where python -c looks.
    built = subprocess.run(
        [sys.executable, "-c", DIGEST_OF_A_BUILD], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert built.stdout.strip() == hashlib.sha256(content).hexdigest(), built.stderr


def test_it_is_at_most_3_mb(content: bytes) -> None:
    assert len(content) <= 3 * 1024 * 1024


def test_entries_are_sorted_and_dated_alike(archive: zipfile.ZipFile) -> None:
    assert archive.namelist() == sorted(archive.namelist())
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_there_is_nothing_compiled_in_it(archive: zipfile.ZipFile) -> None:
    assert not [name for name in archive.namelist() if name.endswith((".so", ".pyd", ".pyc"))]


def test_every_file_in_it_is_python_3_9(archive: zipfile.ZipFile) -> None:
    sources = [name for name in archive.namelist() if name.endswith(".py")]
    assert len(sources) > 50
    for name in sources:
        ast.parse(archive.read(name), name, feature_version=agent_archive.OLDEST_PYTHON)


def test_it_says_which_libraries_it_was_made_of_and_brings_their_licences(archive: zipfile.ZipFile) -> None:
    release = json.loads(archive.read("release.json"))
    for library in ("requests", "urllib3", "idna", "charset_normalizer"):
        assert release[library]
        assert [name for name in archive.namelist() if name.startswith(f"licenses/{library}/")]


def test_a_library_that_needs_a_newer_python_than_the_guests_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "charset_normalizer-99.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: charset_normalizer\nVersion: 99\nRequires-Python: >=3.10\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(errors.Invalid, match=r"charset_normalizer 99 needs Python 3\.10"):
        agent_archive.build_agent()


def test_an_archive_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_archive, "MOST", 1000)
    with pytest.raises(errors.TooLarge):
        agent_archive.build_agent()


def manage_with(tmp_path: Path, *arguments: str) -> int:
    conf = tmp_path / "heat-workflow.conf"
    conf.write_text(f"[api]\nagents_dir = {tmp_path}/agents\n")
    return manage.main(["--config-file", str(conf), *arguments])


def test_the_command_builds_a_release_and_makes_it_current(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert manage_with(tmp_path, "agent", "build") == 0
    digest = hashlib.sha256(content).hexdigest()
    assert capsys.readouterr().out.split()[0] == digest
    assert (tmp_path / "agents" / f"{digest}.pyz").read_bytes() == content
    assert manage_with(tmp_path, "agent", "current") == 0
    assert capsys.readouterr().out == f"{digest} current\n"


def test_building_again_leaves_the_file_alone(tmp_path: Path, content: bytes) -> None:
    assert manage_with(tmp_path, "agent", "build") == 0
    path = tmp_path / "agents" / f"{hashlib.sha256(content).hexdigest()}.pyz"
    before = path.stat()
    assert manage_with(tmp_path, "agent", "build") == 0
    assert path.stat() == before


def test_an_older_release_can_be_made_current_again_but_no_unknown_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = hashlib.sha256(b"older").hexdigest()
    assert manage_with(tmp_path, "agent", "build") == 0
    (tmp_path / "agents" / f"{older}.pyz").write_bytes(b"older")
    assert manage_with(tmp_path, "agent", "current", older) == 0
    assert f"{older} current" in capsys.readouterr().out
    assert manage_with(tmp_path, "agent", "current", "0" * 64) == 1
    assert older in capsys.readouterr().err
