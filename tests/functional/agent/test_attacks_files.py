# SPDX-License-Identifier: Apache-2.0
"""Attacks on the agent by way of the disk: S42 to S44, S50. The attacker is a hook or another user of the machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import uuid
import zipapp
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest_agent.folder import Folder
from guest_agent.hooks.contract import OUTPUTS_STEM
from guest_agent.outputs import read_outputs
from guest_agent.task import Output
from tests.faults import counts
from tests.harness.machine import Machine, end_process, is_alive, wait_for
from tests.harness.small_api import Api, wire_task

NOBODY = 65534
AGENT = str(uuid.uuid4())
JOIN = f"hwj1.{AGENT.replace('-', '')}.{'j' * 43}"
PTRACE_ATTACH = 16

PLANTED = {
    "a symlink to a secret": "ln -s SECRET $o",
    "a symlink to a symlink": "ln -s SECRET $o.l; ln -s $o.l $o",
    "a symlink to nothing": "ln -s /no/such $o",
    "a symlink to itself": "ln -s $o $o",
    "a hard link to another's file": "ln SECRET $o",
    "a FIFO": "mkfifo $o",
    "a device that never ends": "mknod $o c 1 5",
    "a directory": "mkdir $o",
    "a socket": "python3 -c \"import socket,os;socket.socket(socket.AF_UNIX).bind(os.environ['o'])\"",
    "its folder a symlink": "d=$(dirname $o); rm -rf $d; ln -s $(dirname SECRET) $d",
    "a file without end": "truncate -s 1T $o",
    "a process's memory": "ln -s /proc/self/environ $o",
    "its folder gone": "rm -rf $(dirname $o)",
}


@pytest.fixture
def guest(open_directory: Path, fake: Api) -> Iterator[Machine]:
    made = Machine(open_directory / "guest", fake.url, AGENT, JOIN)
    yield made
    made.end()


@pytest.mark.parametrize("run_as", ["", "nobody"])
def test_s42_what_is_planted_as_an_output_is_not_followed_and_does_not_block(
    guest: Machine, fake: Api, open_directory: Path, run_as: str
) -> None:
    guest.start()
    secret = open_directory / "private" / "o.y"
    secret.parent.mkdir(mode=0o755)
    secret.write_text("canary-secret")
    secret.chmod(0o600)
    if run_as:
        secret.parent.chmod(0o777)  # protected_hardlinks or not: a link to another's file is no output
    else:
        os.chown(secret, NOBODY, NOBODY)
    for what, plant in PLANTED.items():
        plant = plant.replace("SECRET", str(secret))
        script = f"export o=${{heat_outputs_path}}.y; {plant}\ntrue\n"
        report = fake.report_of(fake.add(wire_task(script, outputs=[{"name": "y"}], run_as=run_as)))
        assert "canary-secret" not in str(report), what
        assert report["outputs"] == {}, what


SPOILT = {
    "removed": "rm -rf $d",
    "a link": "rm -rf $d; ln -s /etc $d",
    "a link to nothing": "rm -rf $d; ln -s /no/such $d",
    "a file": "rm -rf $d; touch $d",
    "a pipe": "rm -rf $d; mkfifo $d",
    "the run directory gone with it": "rm -rf $d/..; rm -rf $(dirname $d)",
}


def test_f54_a_hook_that_spoilt_the_folder_of_its_outputs_is_reported_as_what_it_was(guest: Machine, fake: Api) -> None:
    """It ran, so its exit status and its text stand; only the outputs are missing, in words."""
    guest.start()
    for what, spoil in SPOILT.items():
        for code, status in ((0, "succeeded"), (7, "failed")):
            script = f"d=$(dirname $heat_outputs_path); {spoil}\necho said; exit {code}\n"
            report = fake.report_of(fake.add(wire_task(script, outputs=[{"name": "y"}])))
            assert (report["status"], report["deploy_status_code"]) == (status, code), (what, report["reason"])
            assert report["deploy_stdout"] == "said\n", what
            assert "not started" not in report["reason"]
            assert "outputs left out: the hook has removed their folder" in report["reason"], what
        script = f"d=$(dirname $heat_outputs_path); {spoil}\nsleep 50\n"
        report = fake.report_of(fake.add(wire_task(script, timeout=0.5)))
        assert report["status"] == "timed_out", what


def test_s42_a_path_swapped_for_a_link_while_it_is_read_never_gives_the_secret(tmp_path: Path) -> None:
    """A racer puts a file, a link to the secret and a FIFO under the name in turn, as fast as it can."""
    secret = tmp_path / "secret"
    secret.write_text("canary-secret")
    place = tmp_path / "outputs"
    place.mkdir()
    racer = os.fork()
    if racer == 0:
        _race(place, secret)
    try:
        wait_for(lambda: list(place.iterdir()))
        folder = Folder(str(place))
        seen: set[str] = set()
        for _ in range(counts.S42_READS):
            values, problems = read_outputs(folder, (Output("y"),), os.geteuid())
            seen |= set(values.values()) | {problem.partition(":")[0] for problem in problems}
        folder.close()
    finally:
        end_process(racer)
        os.waitpid(racer, 0)
    assert "canary-secret" not in seen
    assert "mine" in seen
    assert "output y left out" in seen


def _race(place: Path, secret: Path) -> None:
    os.chdir(place)
    while True:
        for make in (
            lambda: Path("t").write_text("mine"),
            lambda: os.symlink(secret, "t"),
            lambda: os.mkfifo("t"),
        ):
            make()
            os.rename("t", f"{OUTPUTS_STEM}.y")


@pytest.mark.parametrize("name", ["spool", "run", "credential", "nonce", "lock", "status.json"])
def test_s42_a_link_in_the_state_directory_is_not_followed(
    guest: Machine, fake: Api, open_directory: Path, name: str
) -> None:
    target = open_directory / "target"
    if name in ("spool", "run"):
        target.mkdir()
    else:
        target.write_text("canary")
    guest.state.mkdir(mode=0o700)
    (guest.state / name).symlink_to(target)
    guest.start()
    assert guest.process is not None
    wait_for(lambda: guest.process is not None and (guest.process.poll() is not None or "claim" in fake.names()))
    if name in ("spool", "run"):
        assert list(target.iterdir()) == []
        assert guest.process.wait(10) == 1
    else:
        assert target.read_text() == "canary"


def _plant_owner(directory: Path) -> Path:
    state = directory / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    return state


def _plant_writable(directory: Path) -> Path:
    state = directory / "state"
    state.mkdir()
    state.chmod(0o777)
    return state


def _plant_parent(directory: Path) -> Path:
    (directory / "above").mkdir()
    os.chown(directory / "above", NOBODY, NOBODY)
    return directory / "above" / "state"


def _plant_open_parent(directory: Path) -> Path:
    (directory / "above").mkdir()
    (directory / "above").chmod(0o777)
    return directory / "above" / "state"


def _plant_link(directory: Path) -> Path:
    (directory / "theirs").mkdir()
    (directory / "state").symlink_to(directory / "theirs")
    os.chown(directory / "state", NOBODY, NOBODY, follow_symlinks=False)
    return directory / "state"


def _plant_file(directory: Path) -> Path:
    (directory / "state").write_text("")
    return directory / "state"


@pytest.mark.parametrize(
    "plant", [_plant_owner, _plant_writable, _plant_parent, _plant_open_parent, _plant_link, _plant_file]
)
def test_s43_a_state_directory_that_somebody_else_prepared_is_refused_in_words(
    guest: Machine, fake: Api, open_directory: Path, plant: Callable[[Path], Path]
) -> None:
    state = plant(open_directory)
    guest.configure(fake.url, JOIN, state_dir=str(state))
    guest.start()
    assert guest.process is not None
    assert guest.process.wait(30) == 1
    said = guest.log.read_text()
    assert "heat-workflow-agent: " in said
    assert str(open_directory) in said
    assert fake.calls == []


def test_s44_another_user_reads_nothing_rings_no_bell_and_traces_nobody(
    guest: Machine, fake: Api, open_directory: Path
) -> None:
    guest.start()
    script = (
        f"echo $$ > {open_directory}/part; mv {open_directory}/part {open_directory}/pid\n"
        f"while [ ! -e {open_directory}/go ]; do sleep 0.02; done\n"
    )
    task = fake.add(wire_task(script, input_values={"password": "canary"}, hidden_inputs=["password"]))
    wait_for((open_directory / "pid").exists)
    hook = int((open_directory / "pid").read_text())
    (run,) = (guest.state / "run").iterdir()
    closed = [path for path in guest.state.rglob("*") if not path.is_dir()]
    assert {path.name for path in closed} >= {"credential", "nonce", "order.json", "inputs.json", "control", "alive"}
    assert guest.process is not None
    refused = _as_nobody([guest.state, run, guest.state / "spool", *closed], [hook, guest.process.pid])
    (open_directory / "go").touch()
    assert fake.report_of(task)["status"] == "succeeded"
    assert refused == []


def _as_nobody(paths: list[Path], pids: list[int]) -> list[str]:
    """What a process of another user could get at."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.write(write, "\n".join([*_openable(paths), *_traceable(pids)]).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as file:
        return file.read().splitlines()


def _openable(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        for flags in (os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY | os.O_NONBLOCK):
            try:
                os.open(path, flags)
            except OSError:
                continue
            yield f"opened {path}"


def _traceable(pids: list[int]) -> Iterator[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    for pid in pids:
        if libc.ptrace(PTRACE_ATTACH, pid, 0, 0) == 0:
            yield f"traced {pid}"
        for name in ("environ", "mem", "fd"):
            if os.access(f"/proc/{pid}/{name}", os.R_OK):
                yield f"may read {name} of {pid}"
        try:
            os.kill(pid, signal.SIGTERM)
        except PermissionError:
            continue
        yield f"signalled {pid}"


EVIL = "import pathlib; pathlib.Path({canary!r}).touch()\n"
HIJACKED = ("json.py", "sitecustomize.py", "usercustomize.py", "socket.py", "requests.py", "guest_agent.py", "ssl.py")


def test_s50_no_module_from_the_environment_or_the_working_directory_is_imported(fake: Api, tmp_path: Path) -> None:
    """The agent is started as the installer does it: ``python3 -I agent.pyz`` from anywhere."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in HIJACKED:
        (evil / name).write_text(EVIL.format(canary=str(tmp_path / f"canary-{name}")))
    archive = _archive(tmp_path)
    machine = Machine(tmp_path / "guest", fake.url, AGENT, JOIN)
    command = [sys.executable, "-I", str(archive), "run", "--config", str(machine.config)]
    environment = {**os.environ, "PYTHONPATH": str(evil), "PYTHONSTARTUP": str(evil / "json.py"), "PYTHONHOME": ""}
    with machine.log.open("ab") as log:
        machine.process = subprocess.Popen(command, cwd=evil, env=environment, stderr=log)
    try:
        report = fake.report_of(fake.add(wire_task("echo on\n")))
        assert report["deploy_stdout"] == "on\n"
        for pid in _children(machine.process.pid):
            os.kill(pid, signal.SIGKILL)  # the zygote: the next one is a new interpreter, from the same archive
            wait_for(lambda: not is_alive(pid))  # noqa: B023
        assert fake.report_of(fake.add(wire_task("echo again\n")))["deploy_stdout"] == "again\n"
    finally:
        machine.end()
    assert list(tmp_path.glob("canary-*")) == []


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _archive(directory: Path) -> Path:
    """The agent with what it needs, in one file."""
    import certifi
    import idna
    import requests
    import urllib3

    import guest_agent

    tree = directory / "tree"
    for package in (guest_agent, requests, urllib3, idna, certifi):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        shutil.copytree(source, tree / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "__main__.py").write_text("import sys\nfrom guest_agent.main import main\nsys.exit(main())\n")
    archive = directory / "agent.pyz"
    zipapp.create_archive(tree, archive)
    archive.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    return archive
