# SPDX-License-Identifier: Apache-2.0
"""The state directory: only one that nobody else can touch is used (S43)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from guest_agent.errors import StateError
from guest_agent.state_dir import StateDir, find_holder


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    StateDir(str(tmp_path / "new" / "state"))
    for name in ("", "spool", "run"):
        assert stat.S_IMODE((tmp_path / "new" / "state" / name).stat().st_mode) == 0o700


def test_a_readable_one_is_closed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    StateDir(str(tmp_path / "state"))
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_one_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o770)
    with pytest.raises(StateError, match="can be written by others"):
        StateDir(str(tmp_path / "state"))


def test_a_parent_that_others_can_write_is_refused_unless_sticky(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StateError, match=r"open can be written by others \(mode 0777\)"):
        StateDir(str(tmp_path / "open" / "state"))
    (tmp_path / "open").chmod(0o1777)
    StateDir(str(tmp_path / "open" / "state"))


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real")
    with pytest.raises(StateError, match="state"):
        StateDir(str(tmp_path / "state"))


def test_one_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        path = Path("/etc")
    with pytest.raises(StateError, match="belongs to uid"):
        StateDir(str(path))


def test_a_second_process_is_kept_out_and_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    code = (
        "import os, sys; from guest_agent.state_dir import StateDir\n"
        "StateDir(sys.argv[1]).lock()\n"
        "child = os.fork()\n"
        "if child == 0: sys.stdin.read(); os._exit(0)\n"
        "print('locked', flush=True); os.read(9, 1)"
    )
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.dup2({read}, 9)\n{code}", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[read],
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert find_holder(path) == holder.pid
        with pytest.raises(StateError, match="in use by another agent"):
            StateDir(path).lock()
        os.write(write, b"x")
        holder.wait()
        assert find_holder(path) is None
    os.close(read)
    os.close(write)
