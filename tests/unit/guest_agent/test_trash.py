# SPDX-License-Identifier: Apache-2.0
"""The trash: it takes whatever a hook has left, follows nothing, raises nothing, and comes back for the rest (F52)."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest_agent.state_dir import StateDir
from guest_agent.trash import FIRST_RETRY, TRASH

LONG = "d" * 50
DEEPER_THAN_A_PATH = 1200  # and than Python may recurse


@pytest.fixture
def left(state: StateDir) -> Path:
    """A run directory for a test to spoil."""
    path = Path(state.run.path) / "left"
    path.mkdir()
    return path


@pytest.fixture
def mounted(left: Path, root: None) -> Iterator[Path]:
    """A file system mounted in it, with a file of somebody."""
    point = left / "a" / "mounted"
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
    (point / "precious").touch()
    yield point
    subprocess.run("grep -o '[^ ]*/mounted' /proc/mounts | xargs -r umount", shell=True, check=True)


def dig(directory: Path, levels: int) -> None:
    """Nested folders; by descriptor, for no path reaches the last."""
    at = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(LONG, dir_fd=at)
        below = os.open(LONG, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def _deep(left: Path) -> None:
    dig(left, DEEPER_THAN_A_PATH)


def _many(left: Path) -> None:
    for number in range(2_000):
        (left / str(number)).touch()


def _closed(left: Path) -> None:
    (left / "closed" / "within").mkdir(parents=True)
    (left / "closed" / "within" / "file").touch()
    (left / "closed" / "within").chmod(0)
    (left / "closed").chmod(0)


def _odd_names(left: Path) -> None:
    for name in (b"\xff\xfe", b"\n", b"n" * 255, b"-rf", b"\xed\xa0\x80", b" ", b"*"):
        (left / os.fsdecode(name)).mkdir()
        (left / os.fsdecode(name) / os.fsdecode(name)).touch()


def _odd_files(left: Path) -> None:
    os.mkfifo(left / "pipe")
    (left / "link").symlink_to("link")
    (left / "huge").touch()
    os.truncate(left / "huge", 1 << 40)


@pytest.mark.parametrize("spoil", [_deep, _many, _closed, _odd_names, _odd_files])
def test_f52_whatever_a_hook_has_left_is_removed(spoil: Callable[[Path], None], state: StateDir, left: Path) -> None:
    spoil(left)
    assert state.trash.put(state.run, "left")
    assert not left.exists()
    state.trash.empty(60)
    assert not state.trash.is_behind
    assert os.listdir(Path(state.path) / TRASH) == []


def test_f52_an_agent_that_is_not_root_opens_what_was_closed(open_home: Path) -> None:
    code = (
        "import os, sys, pathlib; from guest_agent.folder import Folder; from guest_agent.trash import Trash\n"
        "os.setgid(65534); os.setuid(65534); os.chdir(sys.argv[1])\n"
        "home = pathlib.Path('.'); (home / 'left/closed/within').mkdir(parents=True)\n"
        "(home / 'left/closed/within/file').touch()\n"
        "for path in ('left/closed/within', 'left/closed', 'left'): (home / path).chmod(0)\n"
        "root = Folder('.'); trash = Trash(root, root); print(trash.throw(root, 'left'), os.listdir('trash'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(open_home)], capture_output=True, text=True, check=False)
    assert done.stdout == "True []\n", done.stderr


def test_f52_no_link_is_followed_and_no_mount_is_entered(
    state: StateDir, left: Path, mounted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (left / "link").symlink_to(precious)
    (left / "inputs.json").write_text("secret")
    caplog.set_level(logging.WARNING)
    state.trash.throw(state.run, "left")
    assert not left.exists()
    assert (precious / "file").exists()
    (where,) = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "/mounted" in line]
    assert (Path(where) / "precious").exists()
    found = [str(path) for path in (Path(state.path) / TRASH).rglob("*")]
    assert sorted(found) == sorted([str(Path(where).parent), where, f"{where}/precious"])
    assert [record.getMessage().split("'")[1] for record in caplog.records] == [where]


def test_f52_what_cannot_be_removed_is_told_once_and_tried_again_at_growing_intervals(
    state: StateDir, left: Path, mounted: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    caplog.set_level(logging.WARNING)
    state.trash.throw(state.run, "left")
    tries = []
    for _ in range(10 * int(FIRST_RETRY)):
        now[0] += 1
        if state.trash.tend():
            tries.append(now[0])
    assert [later - earlier for earlier, later in zip(tries, tries[1:])] == [120, 240]
    assert len(caplog.records) == 1
    subprocess.run("grep -o '[^ ]*/mounted' /proc/mounts | xargs -r umount", shell=True, check=True)
    now[0] += 3600
    assert state.trash.tend()
    assert os.listdir(Path(state.path) / TRASH) == []


def test_f52_a_run_directory_that_cannot_even_be_moved_stays_and_is_told(
    state: StateDir, left: Path, caplog: pytest.LogCaptureFixture, root: None
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(left)], check=True)
    try:
        assert not state.trash.throw(state.run, "left")
        assert len(caplog.records) == 1
    finally:
        subprocess.run(["umount", str(left)], check=True)
    assert state.trash.throw(state.run, "left")


def test_f52_a_file_that_nobody_may_remove_keeps_nothing_else(state: StateDir, left: Path, root: None) -> None:
    (left / "outputs").mkdir()
    for name in ("fixed", "inputs.json"):
        (left / "outputs" / name).touch()
    subprocess.run(["chattr", "+i", str(left / "outputs" / "fixed")], check=True)
    try:
        state.trash.throw(state.run, "left")
        files = [path for path in (Path(state.path) / TRASH).rglob("*") if path.is_file()]
        assert [path.name for path in files] == ["fixed"]
    finally:
        subprocess.run(f"chattr -i {state.path}/{TRASH}/*/fixed", shell=True, check=True)
    state.trash.empty()
    assert os.listdir(Path(state.path) / TRASH) == []


def test_f52_one_call_is_short_however_much_there_is(state: StateDir, left: Path) -> None:
    _many(left)
    assert state.trash.put(state.run, "left")
    state.trash.empty(0)
    assert state.trash.is_behind
    while state.trash.is_behind:
        state.trash.tend()
    assert os.listdir(Path(state.path) / TRASH) == []


def test_f52_a_process_that_goes_on_changing_it_brings_nothing_else_into_danger(
    state: StateDir, left: Path, tmp_path: Path
) -> None:
    """A racer swaps folders for links to a precious one, as fast as it can, while they are removed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    over = threading.Event()

    def race(at: int) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                os.mkdir("x", dir_fd=at)
                os.rename("x", "y", src_dir_fd=at, dst_dir_fd=at)
            with contextlib.suppress(OSError):
                os.rmdir("y", dir_fd=at)
                os.symlink(precious, "x", dir_fd=at)
                os.rename("x", "y", src_dir_fd=at, dst_dir_fd=at)

    at = os.open(left, os.O_RDONLY)
    racer = threading.Thread(target=race, args=(at,))
    racer.start()
    try:
        assert state.trash.put(state.run, "left")
        for _ in range(50):
            state.trash.empty(0.02)
    finally:
        over.set()
        racer.join()
        os.close(at)
    state.trash.empty()
    assert (precious / "file").exists()
    assert os.listdir(Path(state.path) / TRASH) == []


def test_f52_run_directories_on_another_file_system_are_removed_there(tmp_path: Path, root: None) -> None:
    run = tmp_path / "state" / "run"
    run.mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "none", str(run)], check=True)
    state = StateDir(str(tmp_path / "state"))
    try:
        (run / "left").mkdir()
        dig(run / "left", 10)
        assert state.trash.throw(state.run, "left")
        assert os.listdir(run) == [TRASH]
        assert os.listdir(run / TRASH) == []
        (tmp_path / "state" / "other").mkdir()
        assert not state.trash.throw(state.root, "other"), "that one is where the trash is not any more"
    finally:
        subprocess.run(["umount", "-l", str(run)], check=True)


@pytest.mark.parametrize("name", ["lock", "stopped", "credential", "nonce", "status.json", "ca.pem"])
def test_f52_a_folder_in_the_place_of_one_of_the_agents_files_is_set_aside_at_start(name: str, tmp_path: Path) -> None:
    (tmp_path / "state" / name / "in").mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    state = StateDir(str(tmp_path / "state"))
    state.lock()
    assert not state.take_stop_mark()
    assert not (tmp_path / "state" / name).is_dir()
