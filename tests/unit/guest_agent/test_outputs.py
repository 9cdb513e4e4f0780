# SPDX-License-Identifier: Apache-2.0
"""Outputs: only what was declared, only regular files of the hook's own, bounded (S35, S42)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_agent.folder import Folder
from guest_agent.outputs import ONE_LIMIT, read_outputs
from guest_agent.task import Output


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "outputs").mkdir()
    opened = Folder(str(tmp_path / "outputs"))
    yield opened
    opened.close()


def _read(folder: Folder, *names: str) -> tuple[dict[str, str], list[str]]:
    return read_outputs(folder, tuple(Output(name) for name in names), os.geteuid())


def test_declared_ones_are_read_exactly_as_written(folder: Folder) -> None:
    text = " grüße\r\n\n"
    Path(folder.path, "o.a").write_bytes(text.encode())
    Path(folder.path, "o.undeclared").write_text("x")
    assert _read(folder, "a", "unwritten") == ({"a": text}, [])


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "nul", "binary", "large"])
def test_what_cannot_be_trusted_is_left_out_with_a_reason(folder: Folder, tmp_path: Path, kind: str) -> None:
    path = Path(folder.path, "o.a")
    if kind == "link":
        (tmp_path / "secret").write_text("canary")
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_bytes({"nul": b"a\0b", "binary": b"\xff"}[kind])
    Path(folder.path, "o.b").write_text("fine")
    values, problems = _read(folder, "a", "b")
    assert values == {"b": "fine"}
    (problem,) = problems
    assert problem.startswith("output a left out: ")
    assert "canary" not in problem


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "a\0b", "x" * 300])
def test_s35_a_name_never_becomes_a_path(folder: Folder, name: str) -> None:
    Path(folder.path, "o.").mkdir()
    assert _read(folder, name)[0] == {}


def test_a_file_of_somebody_else_is_left_out(folder: Folder) -> None:
    Path(folder.path, "o.a").write_text("x")
    values, problems = read_outputs(folder, (Output("a"),), os.geteuid() + 1)
    assert values == {}
    assert "it belongs to uid" in problems[0]


def test_together_they_are_bounded_too(folder: Folder) -> None:
    for name in "abc":
        Path(folder.path, f"o.{name}").write_text("x" * ONE_LIMIT)
    values, problems = _read(folder, "a", "b", "c")
    assert set(values) == {"a", "b"}
    assert problems == [f"output c left out: too large, {ONE_LIMIT} bytes of 0"]
