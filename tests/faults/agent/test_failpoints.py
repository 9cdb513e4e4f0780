# SPDX-License-Identifier: Apache-2.0
"""F10, F15, F34: agent, zygote and shim die at every step of the journal and of the credential; nothing is doubled."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guest_agent.records import decode, encode
from tests.faults import counts
from tests.faults.agent.conftest import Cloud
from tests.harness.guests import CounterFile, Guest
from tests.harness.invariants import agree
from tests.harness.kept import Kept
from tests.harness.machine import wait_for

Task = dict[str, Any]
Add = Callable[..., Task]
Finished = Callable[[Task], Task]
Cancel = Callable[[Task], None]

ROOT = Path(__file__).resolve().parents[3]
STEPS = {"written", "renamed"}
DURABLE_STEPS = STEPS | {"synced", "flushed"}
FILES = {
    "claimed": STEPS | {"forgotten"},
    "started": DURABLE_STEPS | {"forgotten"},
    "finished": DURABLE_STEPS | {"forgotten"},
    "last": DURABLE_STEPS,
    "credential": DURABLE_STEPS,
    "nonce": DURABLE_STEPS,
    "order.json": DURABLE_STEPS,
    "cancel": STEPS,
    "falls": STEPS,
    "status.json": STEPS,
}
SHIM = {"shim.born", "shim.detached", "shim.hook-up", "shim.hook-over", "shim.concluded"}
# What has to happen for a process to come to the moment; everything else is on the way of any task.
ON_JOIN = {"enroll.answered", *(f"last.{step}" for step in DURABLE_STEPS)}
ON_START = {"hello.answered", *(f"nonce.{step}" for step in DURABLE_STEPS)}
ON_ROTATION = {"rotate.made", "rotate.answered", *(f"credential.{step}" for step in DURABLE_STEPS)}
ON_REBOOT = {"shim.reboot-wanted", "shim.reboot-journaled", *(f"order.json.{step}" for step in DURABLE_STEPS)}
ON_FALL = {"falls.written", "falls.renamed"}
ON_CANCEL = {"cancel.written", "cancel.renamed"}
HIT: set[str] = set()


def _names() -> set[str]:
    """Every failpoint that the agent's source names, those of files once for each file."""
    found: set[str] = set()
    for path in (ROOT / "guest_agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                name = node.args[0]
                assert isinstance(name, ast.Constant)
                assert isinstance(name.value, str), f"{path}: a failpoint's name is written out"
                files = [file for file, steps in FILES.items() if name.value in steps] if node.args[1:] else []
                found |= {f"{file}.{name.value}" for file in files} or {name.value}
    return found


NAMES = sorted(_names())


class Scene:
    """One guest after another with what a test may do to it."""

    def __init__(self, make_guest: Callable[..., Guest], counter: CounterFile, add: Add, cancel: Cancel) -> None:
        self._make_guest = make_guest
        self._counter = counter
        self._add = add
        self._cancel = cancel
        self._server = ""
        self.guest = self.next_guest(0)

    def next_guest(self, number: int) -> Guest:
        """A new machine, whose agent has not joined yet."""
        self._server = f"s{number}"
        self.guest = self._make_guest(self._server)
        return self.guest

    def task(self, work: str = "", **fields: Any) -> Task:
        return self._add(self._counter.script(work), server=self._server, **fields)

    def running(self, work: str) -> Task:
        """A task whose hook has begun."""
        task = self.task(work)
        wait_for(lambda: (task["id"], 1) in self._counter.read().starts)
        return task

    def drive(self, name: str, armed: Path) -> Task:
        """Bring about what leads to the moment; the task that must come to one end in spite of it."""
        if name in ON_START | ON_ROTATION:
            if name in ON_ROTATION:
                _make_older(self.guest)  # before the kill, for the next agent is there at once
            self.guest.kill()
        elif name in ON_REBOOT:
            return self.task("[ $HW_BOOT = 1 ] || exit 194")
        elif name in ON_FALL:
            task = self.running(f"while [ -e {armed} ]; do sleep 0.02; done")
            self.guest.kill()
            return task
        elif name in ON_CANCEL:
            task = self.running("sleep 30")
            self.guest.kill()  # the next one beats at once and learns of the cancel
            self._cancel(task)
            return task
        elif name == "claim.taken-back":
            self.guest.arm("shim.born")
        return self.task()


def _make_older(guest: Guest) -> None:
    """The secret in use is old enough to be rotated at the next start."""
    path = guest.state / "credential"
    record = decode(path.read_bytes(), "credential")
    record["secrets"] = [[text, 0.0] for text, _ in record["secrets"]]
    path.write_bytes(encode(record))


@pytest.fixture
def scene(make_guest: Callable[..., Guest], counter: CounterFile, add: Add, cancel: Cancel) -> Scene:
    return Scene(make_guest, counter, add, cancel)


@pytest.mark.parametrize("name", NAMES)
def test_f10_f15_f34_killed_at_every_failpoint_each_task_ends_once_and_no_attempt_starts_twice(
    name: str, scene: Scene, counter: CounterFile, finished: Finished, cloud: Cloud, project: str
) -> None:
    ends = []
    for number in range(counts.F10_KILLS):
        if name in ON_JOIN and number:
            scene.guest.end()
            scene.next_guest(number)
        ends.append(_killed_once(name, scene, finished))
    _judge(name, ends, counter)
    assert not list(agree(Kept(cloud.store, project)))
    HIT.add(name)


def _killed_once(name: str, scene: Scene, finished: Finished) -> Task:
    """The task during which a process died at the moment; all is at peace again."""
    guest = scene.guest
    armed = guest.failpoints / name
    if name in ON_JOIN:
        guest.arm(name)
    with guest.kept_alive():
        before = finished(scene.task())
        assert before["state"] == "succeeded", before["status_reason"]
        if name in ON_JOIN:
            task = before
        else:
            guest.arm(name)
            task = finished(scene.drive(name, armed))
        wait_for(lambda: not list(guest.failpoints.iterdir()))
        guest.settle()
    return task


def _judge(name: str, ends: list[Task], counter: CounterFile) -> None:
    executed = counter.read()
    boots = 2 if name in ON_REBOOT else 1
    for task in ends:
        started = sum(count for (task_id, _), count in executed.starts.items() if task_id == task["id"])
        if task["state"] == "succeeded":
            assert started == executed.starts[task["id"], task["attempt"]] == boots
            assert task["outputs"] == {"y": f"{task['id']}/{task['attempt']}"}
        elif name in ON_CANCEL:
            assert (task["state"], started) == ("cancelled", 1)
        else:
            assert _loses_its_shim(name), f"{name}: {task['status_reason']}"
            assert task["status_reason"].startswith(("hook lost", "interrupted by reboot"))
            assert started <= boots


def _loses_its_shim(name: str) -> bool:
    """Whether it is the shim that dies, with the hook perhaps executed."""
    return name in SHIM | {"shim.reboot-wanted", "shim.reboot-journaled"} or name.startswith(("started.", "finished."))


def test_f10_every_failpoint_was_hit(request: pytest.FixtureRequest) -> None:
    if len({item.name for item in request.session.items if item.path == request.path}) < len(NAMES):
        pytest.fail("this judges the runs of the whole file; run the file", pytrace=False)
    assert set(NAMES) == HIT, f"never hit: {sorted(set(NAMES) - HIT)}"
