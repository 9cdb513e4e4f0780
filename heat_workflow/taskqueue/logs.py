# SPDX-License-Identifier: Apache-2.0
"""Logs: a hook's output as it is written, in numbered chunks that may be sent twice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from heat_workflow import errors
from heat_workflow.store import Tx
from heat_workflow.taskqueue import TaskQueue, cancelling, reporting

KEPT_MOST = 1024 * 1024  # characters kept of one attempt
_TAIL_LEAST = 4096  # characters of the tail that stand behind however long a log
_LINE = 256  # characters for the lines that say what is missing
_KEEP_ALIVE = 15.0
# What agents put where they left something out: of a stream in their report, and at the end of a log that is full.
_LEFT_OUT = re.compile(r"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n")
_LOG_FULL = "\n[... the log is full, the rest is left out ...]\n"


@dataclasses.dataclass(frozen=True)
class Log:
    """Chunks of one attempt above a number; whether it and its task are over, and the attempt after this one."""

    attempt: int
    chunks: list[dict[str, Any]]
    over: bool
    ended: bool
    following: int | None


def append(
    tx: Tx, agent_id: str, task_id: str, attempt: int, claim_id: str, chunks: Sequence[tuple[int, str, str]]
) -> int:
    """Keep the chunks not yet known and return the number to send next. TooLarge past the bound of an attempt."""
    task = reporting.held(tx, agent_id, task_id, attempt, claim_id)
    known = tx.list_log(task.id, attempt, -1)
    following = known[-1]["n"] + 1 if known else 0
    size = sum(len(chunk["text"]) for chunk in known)
    for n, stream, text in chunks:
        if n < following:
            continue
        if n > following:
            raise errors.Conflict(f"chunk {following} comes next, not {n}", code="chunk-order")
        size += len(text)
        if size > KEPT_MOST:
            raise errors.TooLarge(f"the log of one attempt holds {KEPT_MOST} characters at most")
        tx.insert_log(task.id, attempt, n, stream, text)
        tx.grow(task.workflow_id, len(text))
        following += 1
    tx.wake(f"task:{task.id}")
    return following


def read_log(
    tx: Tx, project_id: str, workflow_id: str, task_id: str, attempt: int | None = None, after: int = -1
) -> Log:
    """What the attempt, the present one for None, has written; NotFound if the task has no such attempt.

    Once it is over, what never came as chunks (the attempt took less than a second, wrote too much, or lost its agent's
    last words) is filled in from the head and the tail that its report has.
    """
    task = cancelling.get_task(tx, project_id, workflow_id, task_id)
    numbers = [one.attempt for one in tx.list_attempts(task.id)]
    if attempt is not None and attempt not in numbers:
        raise errors.NotFound(f"task {task.name} ({task.id}) has no attempt {attempt}", code="attempt-not-found")
    number = task.attempt if attempt is None else attempt
    said = tx.find_attempt(task.id, number)
    over = said is not None and said.finished_at is not None
    if said is None or not over:
        chunks = tx.list_log(task.id, number, after)
    else:
        chunks = completed(tx.list_log(task.id, number, -1), said.deploy_stdout, said.deploy_stderr)
        chunks = [chunk for chunk in chunks if chunk["n"] > after]
    following = min((one for one in numbers if one > number), default=None)
    return Log(number, chunks, over, task.finished, following)


def completed(chunks: list[dict[str, Any]], stdout: str, stderr: str) -> list[dict[str, Any]]:
    """The chunks of an attempt that is over, and behind them what they lack of the streams as they were reported."""
    found = list(chunks)
    room = max(KEPT_MOST - sum(len(chunk["text"]) for chunk in chunks) - _LINE, _TAIL_LEAST)
    for stream, reported in (("stdout", stdout), ("stderr", stderr)):
        came = "".join(chunk["text"] for chunk in chunks if chunk["stream"] == stream)
        rest = rest_of(came, reported, room)
        if rest:
            found.append({"n": found[-1]["n"] + 1 if found else 0, "stream": stream, "text": rest})
    return found


def rest_of(came: str, reported: str, room: int = KEPT_MOST) -> str:
    """What is to stand behind the part of a stream that came, so that with it all of the report can be read.

    ``came`` is how the stream began; ``reported`` all of it, or its head and its tail with a line between them that
    says how many bytes are left out, or its tail alone. Where something is still missing a line says so. Of a tail
    behind such a line the last ``room`` characters are given.
    """
    if came.startswith(reported) or not reported:
        return ""
    if reported.startswith(came):
        return reported[len(came) :]
    gap = _LEFT_OUT.search(reported)
    if gap is None:
        return f"\n[... some output left out ...]\n{reported}"
    head, tail = reported[: gap.start()], reported[gap.end() :]
    came = came.partition(_LOG_FULL)[0]
    missing = len(head.encode()) + int(gap[1]) - len(came.encode())
    if missing > 0:
        missing += len(tail[:-room].encode())
        tail = tail[-room:]
        return f"\n[... {missing} bytes left out ...]\n{tail}"
    return tail.encode()[-missing:].decode("utf-8", "ignore")


async def follow(
    queue: TaskQueue, project_id: str, workflow_id: str, task_id: str, attempt: int | None = None
) -> AsyncIterator[bytes]:
    """The text of the chunks as they come, until the task is finished or gone: of the attempt, or of the present one
    and, each under a line with its number, of those after it."""
    place = (project_id, workflow_id, task_id)
    only, number, after = attempt is not None, attempt, -1

    def news(seen: Log) -> bool:
        return bool(seen.chunks) or seen.ended or seen.following is not None or (only and seen.over)

    while not queue.closed:
        try:
            log = await queue.wait_until(news, [f"task:{task_id}"], _KEEP_ALIVE, read_log, *place, number, after)
        except (errors.NotFound, errors.Unavailable):
            return
        if number is None and log.attempt:
            number = log.attempt
        for chunk in log.chunks:
            yield chunk["text"].encode()
            after = chunk["n"]
        if log.chunks or not news(log):
            continue
        if only or log.following is None:
            return
        number, after = log.following, -1
        yield f"[... attempt {number} ...]\n".encode()
