# SPDX-License-Identifier: Apache-2.0
"""F21, F22, F23, F24: hooks that will not end, write without end, and clocks that jump (G7, G8, G16)."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guest_agent.processes import descendants
from tests.faults import counts
from tests.faults.agent.sabotage import CLOCK
from tests.harness.chains import CHAIN
from tests.harness.guests import CounterFile, Guest, shims_of
from tests.harness.machine import is_alive, processes_of, wait_for

Task = dict[str, Any]
Add = Callable[..., Task]
Finished = Callable[[Task], Task]

FOREVER = "while :; do sleep 50; done"
PYTHON = "exec python3 -c"
ZOO = {
    "ignores SIGTERM": f"trap '' TERM; {FOREVER}",
    "ignores every signal": f"trap '' HUP INT QUIT TERM USR1 USR2 PIPE ALRM; {FOREVER}",
    "calls setsid": f"setsid sh -c '{FOREVER}' & {FOREVER}",
    "forks twice and leaves": f"(setsid sh -c 'trap \"\" TERM; {FOREVER}' >/dev/null 2>&1 &) ; {FOREVER}",
    "closes its descriptors": f"exec 0<&- 1>&- 2>&-; {FOREVER}",
    "holds the pipe in a child that ignores SIGTERM": f"sh -c 'trap \"\" TERM; {FOREVER}' & {FOREVER}",
    "stops itself": "kill -STOP $$; sleep 50",
    "stops its children": f"sleep 50 & kill -STOP $!; {FOREVER}",
    "forks at SIGTERM": f"trap 'setsid sleep 50 & setsid sleep 51 &' TERM; {FOREVER}",
    "forks all the time": "while :; do sleep 50 & sleep 0.01; done",
    "changes its name and process group": f"{PYTHON} 'import os,signal,time;signal.signal(15,signal.SIG_IGN);"
    'os.fork() or os.setpgid(0,0);open("/proc/self/comm","w").write("init");time.sleep(50)\'',
    "is run by a chain of parents that end": f'sh -c \'sh -c "sh -c \\"{FOREVER}\\" &" &\' ; {FOREVER}',
    "does nothing but fork and end": f"{PYTHON} {shlex.quote(CHAIN + 'while True: pass')} $heat_outputs_path.trace",
    "empties its environment": f"env -i setsid sh -c 'trap \"\" TERM; {FOREVER}' & {FOREVER}",
}


@pytest.mark.parametrize("beast", ZOO)
def test_f21_a_timeout_ends_all_of_a_nasty_hook_and_the_agent_goes_on(
    beast: str, guest: Guest, add: Add, finished: Finished, impatient: None
) -> None:
    up = guest.directory / "up"
    with guest.kept_alive():
        for _ in range(counts.F21_ROUNDS):
            began = time.monotonic()
            named = f"echo $PPID > {up}.part; mv {up}.part {up}"
            task = add(f"{named}; {ZOO[beast]}\n", timeout=1)
            wait_for(up.exists)
            (run,) = (guest.state / "run").iterdir()
            hook = descendants(int(up.read_text()))
            assert hook
            after = finished(task)
            assert after["state"] == "timed_out", after["status_reason"]
            assert time.monotonic() - began < 20
            assert processes_of(f"HW_RUN={run.name}") == []
            assert not [pid for pid in hook if is_alive(pid)]
            up.unlink()
        assert finished(add("echo on\n"))["deploy_stdout"] == "on\n"
    assert guest.starts == 1


@pytest.fixture
def impatient(guest: Guest) -> None:
    """SIGKILL comes a second after SIGTERM."""
    guest.environment["HEAT_WORKFLOW_TEST_GRACE"] = "1"


def _high_water(pid: int) -> int:
    """The most memory the process ever had, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


FLOODS = {
    "to its output": "head -c {bytes} /dev/zero | tr '\\0' x",
    "in lines to both": "yes 'a line of some length that is written over and over' | head -c {bytes} | tee /dev/stderr",
    "as an output": "truncate -s {bytes} ${{heat_outputs_path}}.y",
}


@pytest.mark.parametrize("where", FLOODS)
def test_f22_what_a_hook_writes_without_end_costs_bounded_memory_and_disk(
    where: str, guest: Guest, add: Add, finished: Finished, tmp_path: Path
) -> None:
    """``HEAT_WORKFLOW_OUTPUT_MB=5000`` is the long run."""
    flood = FLOODS[where].format(bytes=counts.F22_MEGABYTES * 1_000_000)
    through, go = tmp_path / "through", tmp_path / "go"
    with guest.kept_alive():
        finished(add("true\n"))
        named = f"echo $PPID > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/shim"
        task = add(f"{named}\n{flood}\ntouch {through}; while [ ! -e {go} ]; do sleep 0.01; done\n")
        wait_for((tmp_path / "shim").exists)
        (zygote,), shim = shims_of(guest.pid)[0], int((tmp_path / "shim").read_text())
        at_first = _high_water(guest.pid)
        wait_for(through.exists, 280)
        peak = max(_high_water(guest.pid) - at_first, _high_water(shim) - _high_water(zygote))
        spent = sum(path.stat().st_blocks * 512 for path in guest.state.rglob("*") if path.is_file())
        go.touch()
        after = finished(task)
    assert after["state"] == "succeeded", after["status_reason"]
    print(f"{counts.F22_MEGABYTES} MB {where}: {peak} MiB more memory, {spent / 1e6:.1f} MB of disk")
    assert peak <= 64
    assert spent < 8_000_000
    assert len(after["deploy_stdout"]) + len(after["deploy_stderr"]) < 140_000
    if where == "as an output":
        assert "output y left out: too large" in after["status_reason"]
    else:
        assert "bytes left out" in after["deploy_stdout"]


@pytest.fixture
def clock(guest: Guest, tmp_path: Path) -> Callable[[float], None]:
    """Sets how many seconds the guest's wall clock is off."""
    shift = tmp_path / "shift"
    shift.write_text("0")
    guest.environment[CLOCK] = str(shift)

    def set_to(seconds: float) -> None:
        part = tmp_path / "part"
        part.write_text(str(seconds))
        part.rename(shift)

    return set_to


YEARS = 10 * 365 * 86400.0


@pytest.mark.parametrize("shift", [3600.0, -3600.0, YEARS, -YEARS])
def test_f23_a_hook_ends_at_its_timeout_though_the_clock_jumps_in_the_meantime(
    shift: float, guest: Guest, add: Add, finished: Finished, clock: Callable[[float], None], tmp_path: Path
) -> None:
    with guest.kept_alive():
        began = time.monotonic()
        task = add(f"touch {tmp_path}/up; sleep 100\n", timeout=1)
        wait_for((tmp_path / "up").exists)
        clock(shift)
        assert finished(task)["state"] == "timed_out"
        assert 1 <= time.monotonic() - began < 30


@pytest.mark.parametrize("shift", [3600.0, -3600.0, YEARS, -YEARS])
def test_f24_g16_an_agent_with_a_wrong_clock_that_also_steps_back_works_as_any_other(
    shift: float, guest: Guest, counter: CounterFile, add: Add, finished: Finished, clock: Callable[[float], None]
) -> None:
    clock(shift)
    with guest.kept_alive():
        for seconds in (shift, 0.0, -shift):
            clock(seconds)
            after = finished(add(counter.script()))
            assert after["state"] == "succeeded"
            guest.kill()
        guest.settle()
    assert counter.read().doubled == []
    assert ": 401 " not in guest.log.read_text()
