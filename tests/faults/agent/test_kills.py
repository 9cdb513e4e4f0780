# SPDX-License-Identifier: Apache-2.0
"""F10: agents, zygotes and shims are killed at random times under load; every task ends once, no attempt starts twice.

``HEAT_WORKFLOW_AGENT_KILLS=3000`` is the long run.
"""

from __future__ import annotations

import collections
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import counts
from tests.faults.agent.conftest import Cloud
from tests.faults.agent.killer import AgentKiller, Feeder
from tests.harness.callers import Operator
from tests.harness.guests import CounterFile, Guest
from tests.harness.invariants import agree
from tests.harness.kept import Kept, unfinished
from tests.harness.machine import wait_for

GUESTS = 4
LOST = "hook lost"
POISON = "poison"


@pytest.mark.timeout(60 + counts.AGENT_KILLS * 3)
def test_f10_agents_and_shims_are_killed_at_random_and_every_task_ends_once(
    make_guest: Callable[..., Guest],
    counter: CounterFile,
    operator: Operator,
    cloud: Cloud,
    project: str,
    tmp_path: Path,
) -> None:
    guests = {f"s{number}": make_guest(f"s{number}") for number in range(GUESTS)}
    feeder = Feeder(operator, list(guests), counter, functools.partial(unfinished, cloud.store, project))
    killer = AgentKiller(list(guests.values()), counts.AGENT_KILLS, seed=10, pause=(0.0, 0.1))
    feeder.start()
    with killer.guests_kept_alive():
        killer.start()
        killer.join(counts.AGENT_KILLS * 2 + 60)
        assert not killer.is_alive()
        assert killer.error is None
        feeder.finish()
    kept = Kept(cloud.store, project)
    _judge(kept, counter, killer, feeder)
    for guest in guests.values():
        assert guest.spooled() == ["last", "past"]
        assert guest.starts > 1


def _judge(kept: Kept, counter: CounterFile, killer: AgentKiller, feeder: Feeder) -> None:
    """The counter file, the kills and the store tell one story."""
    executed = counter.read()
    reasons: collections.Counter[str] = collections.Counter()
    lost = []
    for task_id, task in kept.tasks.items():
        key = (task_id, task["attempt"])
        reasons[task["status_reason"].split(":")[0] if task["state"] == "failed" else task["state"]] += 1
        if task["state"] == "succeeded" and key not in executed.ends:
            lost.append(f"task {task_id} succeeded and its hook did not come to its end")
        elif task["state"] == "failed" and not _is_founded(key, task["status_reason"], executed.shims, killer):
            lost.append(f"task {task_id} failed though nobody killed its shim: {task['status_reason']}")
    starts = sum(executed.starts.values())
    print(
        f"\n{len(kept.tasks)} tasks; kills: {dict(killer.kills)}; hook starts {starts}; ends {dict(reasons)}; "
        f"{len(lost)} lost, {len(executed.doubled)} doubled; agents started again {killer.restarts} times"
    )
    assert executed.doubled == []
    assert lost == [], [executed.shims.get((line.split()[1], 1)) for line in lost]
    assert not list(agree(kept))
    tasks_started = collections.Counter(task_id for task_id, _ in executed.starts)
    assert [task_id for task_id, count in tasks_started.items() if count > 1] == []
    assert len(kept.tasks) == feeder.added
    assert sum(killer.kills.values()) == counts.AGENT_KILLS


def _is_founded(key: tuple[str, int], reason: str, shims: dict[tuple[str, int], int], killer: AgentKiller) -> bool:
    """Whether that failure has a cause: its shim was killed, or was gone (pid 1) when the hook asked for its name."""
    if reason.startswith(POISON):
        return True
    return reason.startswith(LOST) and (key not in shims or shims[key] in killer.killed_shims | {1})


@pytest.mark.parametrize("journaled", [True, False], ids=["with the journal", "without the journal"])
def test_f10_g4_the_counter_file_shows_what_an_agent_without_its_journal_does(
    journaled: bool, guest: Guest, counter: CounterFile, add: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    """The negative control: nobody asks the journal whether the hook was started, and it is started twice."""
    if not journaled:
        guest.before = "tests.faults.agent.sabotage:without_started"
    with guest.kept_alive():
        task = add(counter.script(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"))
        wait_for(lambda: counter.read().starts)
        os.kill(counter.read().shims[task["id"], 1], signal.SIGKILL)
        wait_for(lambda: counter.read().doubled or "failed, reported" in guest.log.read_text())
        (tmp_path / "go").touch()
        guest.settle()
    assert bool(counter.read().doubled) is not journaled
