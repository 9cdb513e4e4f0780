# SPDX-License-Identifier: Apache-2.0
"""``waiting_for``: in words, what holds a task that is not running; one test for each case of the contract."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from typing import Any

import pytest

from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess
from tests.harness.waiters import until

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def words(operator: Operator, task: dict[str, Any]) -> str | None:
    found: str | None = operator.show(task)["waiting_for"]
    return found


def test_a_task_that_is_not_finished(operator: Operator) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s")
    operator.task(workflow_id, "b", server="s")
    operator.agent(server="s").take()
    task = operator.task(workflow_id, "c", requires=["a", "b"])
    assert words(operator, task) == "task a (leased), b (ready)"


def test_a_capability_that_nobody_has(operator: Operator) -> None:
    operator.agent(capabilities=["one"])
    operator.agent(capabilities=["two"])
    workflow_id = operator.workflow()

    def for_(*capabilities: str) -> str | None:
        name = "-".join(capabilities) or "none"
        return words(operator, operator.task(workflow_id, name, capabilities=list(capabilities)))

    assert for_("ansible") == "capability ansible: no agent of this project has it"
    assert for_("one", "ansible", "puppet") == "capability ansible, puppet: no agent of this project has it"
    assert for_("one", "two") == "capabilities one, two: no agent of this project has all of them"


def test_an_agent_where_there_is_none(operator: Operator) -> None:
    assert words(operator, operator.task(operator.workflow())) == "an agent: this project has none"


def test_an_agent_that_never_enrolled(operator: Operator) -> None:
    agent_id, _ = operator.register(server="s", join_ttl=600)
    said = words(operator, operator.task(operator.workflow(), server="s"))
    wanted = rf"agent agent {agent_id} \(capability server=s\); never enrolled, its join token expires at {MOMENT}"
    assert said is not None
    assert re.fullmatch(wanted, said), said


def test_an_agent_whose_join_token_has_expired(operator: Operator) -> None:
    operator.register(server="s", join_ttl=0.01)
    task = operator.task(operator.workflow(), server="s")
    until(lambda: "expired" in (words(operator, task) or ""))
    assert re.search(f"; never enrolled, its join token expired at {MOMENT}$", words(operator, task) or "")


def test_an_agent_that_was_seen_at_a_time(operator: Operator) -> None:
    agent = operator.agent(server="s")
    task = operator.task(operator.workflow(), server="s")
    wanted = rf"agent agent {agent.agent_id} \(capability server=s\); last seen {MOMENT}, \d+ s ago"
    assert re.fullmatch(wanted, words(operator, task) or "")


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("drain", "it is draining"),
        ("quarantine", "it is suspect"),
        ("rejoin", "never enrolled, its join token expires"),
    ],
)
def test_an_agent_that_gets_no_work(operator: Operator, verb: str, said: str) -> None:
    agent = operator.agent(server="s")
    task = operator.task(operator.workflow(), server="s")
    assert operator.call("POST", f"/v1/agents/{agent.agent_id}/{verb}").status_code == 200
    assert said in (words(operator, task) or "")


def test_a_workflow_that_is_paused(operator: Operator) -> None:
    workflow_id = operator.workflow()
    operator.agent(server="s")
    task = operator.task(workflow_id, server="s")
    operator.call("POST", f"/v1/workflows/{workflow_id}/pause")
    assert words(operator, task) == f"workflow {workflow_id} to be resumed: it is paused"


def test_the_turn_of_its_batch(operator: Operator) -> None:
    workflow_id = operator.workflow()
    body = {"name": "web", "definition": {"group": "script"}, "servers": {"n1": "1", "n2": "2"}, "batch": {}}
    made = operator.call("POST", f"/v1/workflows/{workflow_id}/tasks", json=body).json()["tasks"]
    assert words(operator, made[1]) == "the turn of batch 2 of web"


def test_a_lock_that_another_task_holds(operator: Operator) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="s", concurrency_key="db")
    taken = operator.agent(server="s").take()
    second = operator.task(workflow_id, "b", server="s", concurrency_key="db")
    assert words(operator, second) == f"the lock db: task {taken['id']} with this concurrency_key is running"


def test_the_delay_before_the_next_attempt(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s", max_attempts=2, retry_delay=600)
    agent = operator.agent(server="s")
    agent.report(agent.take(), "failed")
    assert re.fullmatch(f"the delay before attempt 2, until {MOMENT}", words(operator, task) or "")


def test_an_agent_that_has_to_confirm_a_cancel(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    agent.take()
    operator.call("POST", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/cancel")
    wanted = rf"agent agent {agent.agent_id} to confirm the cancel; last seen {MOMENT}, \d+ s ago"
    assert re.fullmatch(wanted, words(operator, task) or "")


def test_an_agent_that_has_to_come_back(api: ApiProcess, operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    agent.take()
    with contextlib.closing(sqlite3.connect(f"{api.directory}/store.sqlite", timeout=30)) as store, store:
        past = time.time() - 1
        store.execute("UPDATE task SET lease_until = ?, due_at = ? WHERE id = ?", (past, past, task["id"]))
    until(lambda: operator.show(task)["state"] == "stalled")
    assert (words(operator, task) or "").startswith(f"agent agent {agent.agent_id} to come back; last seen ")


def test_nothing_once_it_runs_or_is_finished(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    assert words(operator, task) is None
    agent.report(taken)
    assert words(operator, task) is None


def ended(operator: Operator, task: dict[str, Any], state: str = "timed_out") -> str:
    """The reason of a task that is over by its own deadline or somebody's word."""
    shown = operator.show(task, wait=20)
    assert shown["state"] == state
    return str(shown["status_reason"])


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"deadline": 0.1}, "deadline of 0.1 s passed while ready: "),
        ({"pickup_timeout": 0.1}, "no agent picked it up within 0.1 s (pickup_timeout): "),
    ],
    ids=["deadline", "pickup"],
)
def test_g30_a_task_that_nobody_took_in_time_says_why(operator: Operator, limit: dict[str, Any], said: str) -> None:
    workflow_id = operator.workflow()
    nobodys = operator.task(workflow_id, "nobodys", server="6d5b1a40", **limit)
    tool = operator.task(workflow_id, "tool", capabilities=["ansible"], **limit)
    operator.register(server="late", join_ttl=0.01)
    never = operator.task(workflow_id, "never", server="late", **limit)
    busy = operator.agent(server="s")
    operator.task(workflow_id, "backup", server="s")
    taken = busy.take()
    second = operator.task(workflow_id, "second", server="s", **limit)
    locked = operator.task(workflow_id, "locked", server="one", concurrency_key="k")
    operator.agent(server="one").take()
    behind = operator.task(workflow_id, "behind", server="two", concurrency_key="k", **limit)
    assert ended(operator, nobodys) == f"{said}no agent of this project has capability server=6d5b1a40"
    assert ended(operator, tool) == f"{said}no agent of this project has capability ansible"
    late = r"agent agent \S+ \(capability server=late\): never enrolled, its join token expired at "
    assert re.fullmatch(re.escape(said) + late + MOMENT, ended(operator, never))
    with_what = (
        rf"agent agent {busy.agent_id} \(capability server=s\) was busy with task backup \({taken['id']}\) since "
    )
    assert re.fullmatch(f"{re.escape(said)}{with_what}{MOMENT}; last seen .*", ended(operator, second))
    assert ended(operator, behind).startswith(f"{said}it waited for the lock k: task {locked['id']} ")


def test_g30_a_task_that_waited_in_vain_names_what_held_up_what_it_requires(operator: Operator) -> None:
    workflow_id = operator.workflow()
    operator.task(workflow_id, "a", server="nobody")
    last = operator.task(workflow_id, "b", server="s", requires=["a"], deadline=0.1)
    assert ended(operator, last) == (
        "deadline of 0.1 s passed while waiting: it waited for task a (ready); "
        "no agent of this project has capability server=nobody"
    )


def test_g30_a_cancelled_task_that_nobody_took_says_why(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="nobody")
    operator.call("POST", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/cancel")
    wanted = "cancelled while ready: no agent of this project has capability server=nobody"
    assert ended(operator, task, "cancelled") == wanted


@pytest.mark.parametrize(("verb", "said"), [("drain", "it is draining"), ("quarantine", "it is suspect")])
def test_g30_an_agent_that_got_no_work_is_named_with_the_reason(operator: Operator, verb: str, said: str) -> None:
    agent = operator.agent(server="s")
    assert operator.call("POST", f"/v1/agents/{agent.agent_id}/{verb}").status_code == 200
    task = operator.task(operator.workflow(), server="s", deadline=0.1)
    assert f"ready: agent agent {agent.agent_id} (capability server=s): {said}" in ended(operator, task)


def test_g30_an_agent_of_another_project_is_not_spoken_of(api: ApiProcess, operator: Operator) -> None:
    foreign = Operator(api.url, project="somebody-else")
    agent = foreign.agent(server="s", name="theirs")
    foreign.task(foreign.workflow(), "their-task", server="s")
    agent.take()
    task = operator.task(operator.workflow(), server="s", deadline=0.1)
    assert words(operator, task) == "capability server=s: no agent of this project has it"
    assert (
        ended(operator, task)
        == "deadline of 0.1 s passed while ready: no agent of this project has capability server=s"
    )


def test_an_agent_that_is_busy(operator: Operator) -> None:
    agent = operator.agent(server="s")
    workflow_id = operator.workflow()
    operator.task(workflow_id, "backup", server="s")
    taken = agent.take()
    said = words(operator, operator.task(workflow_id, "install", server="s"))
    busy = rf"busy with task backup \({taken['id']}\) since {MOMENT}; last seen {MOMENT}, \d+ s ago"
    assert re.fullmatch(rf"agent agent {agent.agent_id} \(capability server=s\), {busy}", said or "")
