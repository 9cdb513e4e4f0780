# SPDX-License-Identifier: Apache-2.0
"""F11, F12, F15, F20: shims are killed, the power is cut, memory runs out; each task ends once (G4, G11, G19)."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from guest_agent.order import BOOTS_MOST
from tests.faults import counts
from tests.faults.agent.sabotage import BOOT
from tests.harness.guests import CounterFile, Guest
from tests.harness.machine import end_process, processes_of, wait_for

Task = dict[str, Any]
Add = Callable[..., Task]
Finished = Callable[[Task], Task]


def test_f11_a_killed_shim_is_one_failure_and_its_hook_is_ended(
    guest: Guest, counter: CounterFile, add: Add, finished: Finished
) -> None:
    with guest.kept_alive():
        for _ in range(counts.F11_KILLS):
            task = add(counter.script("sleep 100"))
            wait_for(lambda: (task["id"], 1) in counter.read().starts)  # noqa: B023
            (run,) = (guest.state / "run").iterdir()
            os.kill(counter.read().shims[task["id"], 1], signal.SIGKILL)
            after = finished(task)
            assert after["state"] == "failed"
            assert after["status_reason"].startswith("hook lost")
            assert processes_of(f"HW_RUN={run.name}") == []
        guest.settle()
    assert counter.read().doubled == []


def _cut_power(guest: Guest) -> None:
    """Every process of the guest is gone at once: the agent, its zygote, its shims, their hooks."""
    with guest.standing_still() as stopped:
        for pid in reversed(stopped):
            end_process(pid)
        guest.kill()
    for run in (guest.state / "run").glob("*"):
        for pid in processes_of(f"HW_RUN={run.name}"):
            end_process(pid)


@pytest.mark.parametrize("on_interrupt", ["fail", "rerun", "resume"])
def test_f12_f14_f15_g11_after_a_power_cut_at_any_time_each_task_ends_once(
    on_interrupt: str, guest: Guest, counter: CounterFile, add: Add, finished: Finished
) -> None:
    """Cut before, in and after the hook, and between its end and the report; each boot has an id of its own."""
    chance = random.Random(12)
    guest.start(**{BOOT: "boot-0"})
    tasks = []
    for boot in range(1, counts.F12_CUTS + 1):
        tasks.append(add(counter.script(chance.choice(["", "sleep 0.05"])), on_interrupt=on_interrupt))
        time.sleep(chance.uniform(0.0, 0.12))
        _cut_power(guest)
        guest.start(**{BOOT: f"boot-{boot}"})
    ends = [finished(task) for task in tasks]
    guest.settle()
    executed = counter.read()
    for position, task in enumerate(ends):
        key = (task["id"], task["attempt"])
        cuts = counts.F12_CUTS - position  # since it was added; each may cost a boot, also one before the hook counts
        if task["state"] == "succeeded":
            assert key in executed.ends
        else:
            assert on_interrupt == "fail" or cuts > BOOTS_MOST, task["status_reason"]
            assert task["status_reason"].startswith("interrupted by reboot")
        assert executed.starts[key] <= (1 if on_interrupt == "fail" else 1 + BOOTS_MOST)
        assert sum(count for (task_id, _), count in executed.starts.items() if task_id == task["id"]) >= 1 or (
            task["state"] == "failed"
        )


def test_f20_a_hook_that_runs_out_of_memory_fails_and_the_agent_does_not_notice(
    guest: Guest, add: Add, finished: Finished
) -> None:
    greedy = "ulimit -v 200000; exec python3 -c 'x = bytearray(10**10)'\n"
    with guest.kept_alive():
        after = finished(add(greedy))
        assert (after["state"], after["deploy_status_code"]) == ("failed", 1)
        assert "MemoryError" in after["deploy_stderr"]
    assert guest.starts == 1


def test_f20_an_agent_that_the_kernel_has_ended_is_back_within_ten_seconds_and_its_hook_went_on(
    guest: Guest, counter: CounterFile, add: Add, finished: Finished
) -> None:
    """Starting it again is systemd's part, here that of ``kept_alive``."""
    with guest.kept_alive():
        for _ in range(counts.F20_KILLS):
            task = add(counter.script("sleep 0.2"))
            wait_for(lambda: (task["id"], 1) in counter.read().starts)  # noqa: B023
            began, sessions = time.monotonic(), guest.log.read_text().count("session begun")
            guest.kill()
            wait_for(lambda: guest.log.read_text().count("session begun") > sessions, 10)  # noqa: B023
            assert time.monotonic() - began < 10
            assert finished(task)["state"] == "succeeded"
    assert counter.read().doubled == []
