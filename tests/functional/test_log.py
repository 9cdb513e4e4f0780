# SPDX-License-Identifier: Apache-2.0
"""The log of a task over HTTP: of what ended at once, of each attempt, and followed to the end."""

from __future__ import annotations

import threading
from typing import Any

from tests.harness.callers import Operator, SimulatedAgent


def chunks_of(operator: Operator, task: dict[str, Any], status: int = 200, **query: Any) -> list[dict[str, Any]]:
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/log"
    answer = operator.call("GET", path, params=query)
    assert answer.status_code == status, answer.text
    found: list[dict[str, Any]] = answer.json().get("chunks", [])
    return found


def text_of(operator: Operator, task: dict[str, Any], **query: Any) -> str:
    return "".join(chunk["text"] for chunk in chunks_of(operator, task, **query))


def followed(operator: Operator, task: dict[str, Any], **query: Any) -> str:
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/log"
    return operator.call("GET", path, params={"follow": "true", **query}).text


def send(agent: SimulatedAgent, taken: dict[str, Any], *texts: str, first: int = 0) -> None:
    chunks = [{"n": first + n, "stream": "stdout", "text": text} for n, text in enumerate(texts)]
    body = {"attempt": taken["attempt"], "claim_id": taken["claim_id"], "chunks": chunks}
    assert agent.call("POST", f"/tasks/{taken['id']}/log", json=body).status_code == 200


def test_g29_a_task_that_sent_no_chunk_shows_what_it_reported(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    assert chunks_of(operator, task) == []
    agent.report(taken, deploy_stdout="hello\n", deploy_stderr="oops\n")
    assert chunks_of(operator, task) == [
        {"n": 0, "stream": "stdout", "text": "hello\n"},
        {"n": 1, "stream": "stderr", "text": "oops\n"},
    ]
    assert followed(operator, task) == "hello\noops\n"


def test_g29_the_end_that_did_not_come_in_time_is_put_behind(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    send(agent, taken, "one\n", "two\n")
    agent.report(taken, deploy_stdout="one\ntwo\n[... 70000 bytes left out ...]\nlast\n")
    wanted = "one\ntwo\n[... 70000 bytes left out ...]\nlast\n"
    assert (text_of(operator, task), followed(operator, task)) == (wanted, wanted)


def test_g29_each_attempt_has_its_log_and_a_follower_reads_them_all(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s", max_attempts=3)
    agent = operator.agent(server="s")
    first = agent.take()
    send(agent, first, "begin 1\n")
    read: list[str] = []
    follower = threading.Thread(target=lambda: read.append(followed(operator, task)))
    follower.start()
    agent.report(first, "failed", deploy_stdout="begin 1\nend 1\n")
    agent.report(agent.take(), "failed", deploy_stderr="bad 2\n")
    assert followed(operator, task, attempt=2) == "bad 2\n"
    third = agent.take()
    send(agent, third, "begin 3\n")
    agent.report(third, deploy_stdout="begin 3\n")
    follower.join(30)
    assert read == ["begin 1\nend 1\n[... attempt 2 ...]\nbad 2\n[... attempt 3 ...]\nbegin 3\n"]
    texts = [text_of(operator, task, **({"attempt": n} if n else {})) for n in (0, 1, 2, 3)]
    assert texts == ["begin 3\n", "begin 1\nend 1\n", "bad 2\n", "begin 3\n"]
    chunks_of(operator, task, status=404, attempt=4)
    chunks_of(operator, task, status=422, attempt=0)


def test_g29_a_task_that_nobody_took_has_an_empty_log(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="nobody")
    assert chunks_of(operator, task) == []
    operator.call("POST", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/cancel")
    assert followed(operator, task) == ""
