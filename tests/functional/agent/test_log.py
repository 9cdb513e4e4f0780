# SPDX-License-Identifier: Apache-2.0
"""The live log: a hook's output can be read while it runs, and its loss costs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.functional.agent.conftest import Add
from tests.harness.callers import Operator
from tests.harness.machine import Machine, wait_for

Task = dict[str, Any]
Finished = Callable[..., Task]


def _log_of(operator: Operator, task: Task) -> str:
    """What the API shows of the task's log."""
    answer = operator.call("GET", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/log")
    assert answer.status_code == 200, answer.text
    return "".join(chunk["text"] for chunk in answer.json()["chunks"])


def test_the_log_shows_what_a_running_hook_has_written_and_in_the_end_all(
    machine: Machine, add: Add, finished: Finished, operator: Operator, tmp_path: Path
) -> None:
    task = add(f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done; echo bad >&2\n")
    wait_for(lambda: "begun" in _log_of(operator, task))
    (tmp_path / "go").touch()
    assert finished(task)["deploy_stdout"] == "begun\ndone\n"
    log = _log_of(operator, task)
    assert [log.count(word) for word in ("begun", "done", "bad")] == [1, 1, 1]


def test_an_agent_restarted_in_mid_hook_sends_no_chunk_twice(
    machine: Machine, add: Add, finished: Finished, operator: Operator, tmp_path: Path
) -> None:
    task = add(f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done\n")
    wait_for(lambda: "begun" in _log_of(operator, task))
    machine.kill()
    machine.start()
    wait_for(lambda: machine.log.read_text().count("session begun") == 2)
    (tmp_path / "more").touch()
    (tmp_path / "go").touch()
    assert finished(task)["state"] == "succeeded"
    assert _log_of(operator, task).count("begun") == 1


def test_f22_a_flood_is_cut_and_the_outcome_stands(
    machine: Machine, add: Add, finished: Finished, operator: Operator
) -> None:
    task = finished(add("yes | head -c 300000000; sleep 1.5; exit 3\n"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 3)
    assert "bytes left out" in task["deploy_stdout"]
    assert len(_log_of(operator, task)) < 1024 * 1024


def test_g29_what_is_over_at_once_can_be_read_too_and_of_much_the_head_and_the_tail(
    machine: Machine, add: Add, finished: Finished, operator: Operator
) -> None:
    short = finished(add("echo said; echo bad >&2\n"))
    much = finished(add("echo first; yes | head -c 22000000; echo last\n"))
    assert sorted(_log_of(operator, short).splitlines()) == ["bad", "said"]
    log = _log_of(operator, much)
    assert log.startswith("first\n")
    assert log.endswith("last\n")
    assert "bytes left out ...]" in log
