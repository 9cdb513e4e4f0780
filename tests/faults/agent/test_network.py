# SPDX-License-Identifier: Apache-2.0
"""F5, F6, F7, F8: the agent behind networks that split, go silent or lose one way, and standing still (G5, G18)."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heat_workflow.model import LEASE
from tests.faults import counts
from tests.faults.agent.conftest import Cloud
from tests.faults.agent.sabotage import WAIT
from tests.harness.callers import Operator
from tests.harness.guests import CounterFile, Guest
from tests.harness.machine import wait_for
from tests.harness.nemesis import let_pass, settled
from tests.harness.proxy import ChaosProxy

Task = dict[str, Any]
Add = Callable[..., Task]
Finished = Callable[[Task], Task]
MakeGuest = Callable[..., Guest]


@pytest.fixture
def proxy(cloud: Cloud) -> Iterator[ChaosProxy]:
    with ChaosProxy(cloud.api.port).running() as proxy:
        yield proxy


@pytest.fixture
def far(make_guest: MakeGuest, proxy: ChaosProxy) -> Guest:
    """A guest that reaches the API through the proxy alone; its calls give up after a second of silence."""
    return make_guest(url=proxy.url)


def _blocking(counter: CounterFile, go: Path) -> str:
    return counter.script(f"while [ ! -e {go} ]; do sleep 0.01; done")


def test_f5_g18_a_partition_during_the_report_costs_time_alone(
    far: Guest, proxy: ChaosProxy, counter: CounterFile, add: Add, finished: Finished, tmp_path: Path
) -> None:
    chance = random.Random(5)
    with far.kept_alive():
        for number in range(counts.F5_ROUNDS):
            go = tmp_path / f"go-{number}"
            task = add(_blocking(counter, go))
            wait_for(lambda: (task["id"], 1) in counter.read().starts)  # noqa: B023
            with proxy.partitioned():
                go.touch()
                wait_for(lambda: (task["id"], 1) in counter.read().ends)  # noqa: B023
                wait_for(lambda: proxy.waiting)
                time.sleep(chance.choice([0.0, 0.5, 1.5]))  # shorter and longer than the agent's patience
            after = finished(task)
            assert (after["state"], after["attempt"]) == ("succeeded", 1)
        far.settle()
    assert counter.read().doubled == []


@pytest.mark.parametrize("moment", ["claim", "report", "enroll"])
def test_f7_requests_that_arrive_without_an_answer_start_nothing_twice(
    moment: str,
    make_guest: MakeGuest,
    proxy: ChaosProxy,
    counter: CounterFile,
    add: Add,
    finished: Finished,
    tmp_path: Path,
) -> None:
    for number in range(counts.F7_ROUNDS):
        server, go = f"s{number}", tmp_path / f"go-{number}"
        guest = make_guest(server, url=proxy.url)
        guest.environment[WAIT] = "1"
        with guest.kept_alive():
            if moment == "enroll":
                with proxy.partitioned("back"):
                    wait_for(lambda: proxy.waiting)
                task = add(counter.script(), server=server)
            elif moment == "claim":
                finished(add("true\n", server=server))
                with proxy.partitioned("back"):
                    task = add(counter.script(), server=server)
                    wait_for(lambda: proxy.waiting > 1)
            else:
                task = add(_blocking(counter, go), server=server)
                wait_for(lambda: (task["id"], 1) in counter.read().starts)  # noqa: B023
                with proxy.partitioned("back"):
                    go.touch()
                    wait_for(lambda: proxy.waiting > 1)
            assert finished(task)["state"] == "succeeded"
            guest.settle()
        guest.end()
    assert counter.read().doubled == []


def test_f6_a_peer_that_accepts_and_never_answers_is_let_go_and_the_hook_goes_on(
    far: Guest, proxy: ChaosProxy, counter: CounterFile, add: Add, finished: Finished, tmp_path: Path
) -> None:
    with far.kept_alive():
        task = add(_blocking(counter, tmp_path / "go"))
        wait_for(lambda: counter.read().starts)
        with proxy.partitioned():
            wait_for(lambda: far.log.read_text().count("heartbeat failed") >= 2)  # each call came to its end
            (tmp_path / "go").touch()
            wait_for(lambda: counter.read().ends)  # the stuck heartbeat does not hold the hook
            wait_for(lambda: "no answer in time" in far.log.read_text())
        assert finished(task)["state"] == "succeeded"


def test_f6_every_call_of_the_agent_ends_within_its_own_time(make_guest: MakeGuest) -> None:
    """A socket that accepts and says nothing: call after call comes, none hangs."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    accepted.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        guest = make_guest(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        guest.start()
        wait_for(lambda: len(accepted) >= 3)
        assert guest.log.read_text().count("no answer in time") >= 2
        server.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        connection.close()


@pytest.mark.parametrize("leases", counts.F8_LEASES)
def test_f8_g5_an_agent_that_stood_still_for_longer_than_its_lease_goes_on_with_the_attempt(
    leases: int,
    guest: Guest,
    counter: CounterFile,
    add: Add,
    finished: Finished,
    cloud: Cloud,
    operator: Operator,
    tmp_path: Path,
) -> None:
    with guest.kept_alive():
        task = add(_blocking(counter, tmp_path / "go"))
        wait_for(lambda: counter.read().starts)
        guest.tell(signal.SIGSTOP)
        let_pass(cloud.store, leases * LEASE + 1, task["workflow_id"])
        settled(cloud.store, task["workflow_id"])
        assert operator.show(task)["state"] == "stalled"
        guest.tell(signal.SIGCONT)
        (tmp_path / "go").touch()
        after = finished(task)
        assert (after["state"], after["attempt"]) == ("succeeded", 1)
    assert counter.read().doubled == []


def test_f8_a_pool_task_of_an_agent_that_stood_still_goes_to_another_and_the_first_is_fenced(
    agents: Any, operator: Operator, counter: CounterFile, cloud: Cloud, finished: Finished, tmp_path: Path
) -> None:
    guests = []
    for number in range(2):
        agent_id, join_token = operator.register(capabilities=["pool"])
        guests.append(Guest(agents, tmp_path / f"guest-{number}", operator.url, agent_id, join_token))
    first, second = guests
    definition = {"group": "script", "config": _blocking(counter, tmp_path / "go"), "outputs": [{"name": "y"}]}
    try:
        first.start()
        task = operator.task(operator.workflow(), definition=definition, capabilities=["pool"], max_attempts=2)
        wait_for(lambda: counter.read().starts)
        first.tell(signal.SIGSTOP)
        let_pass(cloud.store, 2 * LEASE + 1, task["workflow_id"])
        second.start()
        wait_for(lambda: (task["id"], 2) in counter.read().starts)
        first.tell(signal.SIGCONT)
        wait_for(lambda: "the lease went to another attempt, the hook is stopped" in first.log.read_text())
        (tmp_path / "go").touch()
        after = finished(task)
        assert (after["state"], after["attempt"], after["agent_id"]) == ("succeeded", 2, second.agent_id)
        first.settle()
        assert "report dropped, the API has another outcome" in first.log.read_text()
    finally:
        for guest in guests:
            guest.end()
    assert counter.read().doubled == []
