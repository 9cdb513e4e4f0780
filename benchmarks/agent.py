# SPDX-License-Identifier: Apache-2.0
"""Agent: what a real agent costs its guest, idle and at work, beside the raw thing it could not do without."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import process
from benchmarks.table import Row, show
from tests.harness.guests import shims_of
from tests.harness.machine import Machine, wait_for
from tests.harness.small_api import Api, Call, Wire, serving, wire_task

IDLE_SECONDS = float(os.environ.get("HEAT_WORKFLOW_IDLE_SECONDS", "60"))
OUTPUT_BYTES = 5_000_000_000
STARTS = 5
TRUES = 100
_RAW = "import requests, sys; print(flush=True); sys.stdin.read()"


def memory(pid: int, field: str = "VmRSS") -> float:
    """MiB of the process."""
    return process.memory(pid, field) / 1024


def raw_memory() -> float:
    """MiB of a Python that has imported requests and does nothing."""
    with subprocess.Popen([sys.executable, "-c", _RAW], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as raw:
        assert raw.stdout is not None
        raw.stdout.readline()
        return memory(raw.pid)


@contextmanager
def guest(api: Api, directory: Path) -> Iterator[Machine]:
    """A guest whose agent has not been started."""
    agent_id = str(uuid.uuid4())
    machine = Machine(directory / agent_id, api.url, agent_id, f"hwj1.{agent_id.replace('-', '')}.{'j' * 43}")
    try:
        yield machine
    finally:
        machine.end()


def _as_the_real_api(api: Api) -> None:
    api.answers["hello"] = lambda _call: (200, {"heartbeat_interval": 20, "max_wait": 50})


def starts(directory: Path) -> float:
    """Seconds from the start of the process to its first poll, the median."""
    seconds = []
    with serving() as api:
        for _ in range(STARTS):
            with guest(api, directory) as machine:
                api.calls.clear()
                began = time.perf_counter()
                machine.start()
                wait_for(lambda: "claim" in api.names())
                seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def idle(directory: Path) -> tuple[float, float, float]:
    """MiB, percent of a core, requests in 30 s of an agent that has done a task and waits for another."""
    with serving() as api, guest(api, directory) as machine:
        _as_the_real_api(api)
        machine.start()
        api.report_of(api.add(wire_task("true\n")))
        wait_for(lambda: api.names()[-1] == "claim")
        assert machine.process is not None
        pids = [machine.process.pid, *shims_of(machine.process.pid)[0]]
        calls, before = len(api.calls), sum(map(process.cpu, pids))
        time.sleep(IDLE_SECONDS)
        spent = sum(map(process.cpu, pids)) - before
        return memory(pids[0]), 100 * spent / IDLE_SECONDS, (len(api.calls) - calls) * 30 / IDLE_SECONDS


def trues(directory: Path) -> tuple[float, float]:
    """Seconds from the claim's answer to the report of ``/bin/true``, and by hand; medians."""
    told: dict[str, float] = {}
    seconds, raw = [], []
    with serving() as api, guest(api, directory) as machine:
        _as_the_real_api(api)

        def reported(call: Call) -> tuple[int, Wire | None]:
            told[call.path.split("/")[-2]] = time.perf_counter()
            return 200, {"state": "succeeded", "task": None}

        api.answers["report"] = reported
        machine.start()
        wait_for(lambda: "claim" in api.names())
        for _ in range(TRUES):
            began = time.perf_counter()
            task = api.add(wire_task("#!/bin/sh\nexec /bin/true\n"))
            wait_for(lambda: task in told)  # noqa: B023
            seconds.append(told[task] - began)
            wait_for(lambda: api.names()[-1] == "claim")
            began = time.perf_counter()
            subprocess.run(["/bin/sh", "-c", "exec /bin/true"], check=True)
            raw.append(time.perf_counter() - began)
    return statistics.median(seconds), statistics.median(raw)


def flood(directory: Path) -> float:
    """MiB that a hook's 5 GB of output cost agent and shim together."""
    through, go = directory / "through", directory / "go"
    script = (
        f"echo $PPID > {directory}/part; mv {directory}/part {directory}/shim\n"
        f"head -c {OUTPUT_BYTES} /dev/zero\ntouch {through}; while [ ! -e {go} ]; do sleep 0.05; done\n"
    )
    with serving() as api, guest(api, directory) as machine:
        _as_the_real_api(api)
        machine.start()
        api.report_of(api.add(wire_task("true\n")))
        assert machine.process is not None
        agent = machine.process.pid
        before = memory(agent, "VmHWM")
        task = api.add(wire_task(script))
        wait_for((directory / "shim").exists)
        (zygote,), shim = shims_of(agent)[0], int((directory / "shim").read_text())
        wait_for(through.exists, 900)
        cost = memory(agent, "VmHWM") - before + memory(shim, "VmHWM") - memory(zygote, "VmHWM")
        go.touch()
        assert api.report_of(task)["stdout_info"]["total_bytes"] == OUTPUT_BYTES
    return cost


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        first_poll = starts(directory)
        rss, percent, requests = idle(directory)
        ours, raw = trues(directory)
        cost = flood(directory)
    show(
        "A real agent",
        [
            Row("Python with requests, doing nothing: memory", raw_memory(), "MiB"),
            Row("agent, idle: memory", rss, "MiB", 30),
            Row(f"agent, idle for {IDLE_SECONDS:g} s: processor", percent, "% of core", 0.1),
            Row("agent, idle: requests in 30 s", requests, "", 1),
            Row("start of the process to its first poll", first_poll, "s", 0.5),
            Row("/bin/true by hand", raw * 1000, "ms"),
            Row("/bin/true from claim to report, more than by hand", (ours - raw) * 1000, "ms", 15),
            Row(f"{OUTPUT_BYTES / 1e9:g} GB of output: memory of agent and shim", cost, "MiB", 64),
        ],
    )
