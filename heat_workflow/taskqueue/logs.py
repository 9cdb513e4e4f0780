# SPDX-License-Identifier: Apache-2.0
"""Logs: a hook's output as it is written, in numbered chunks that may be sent twice."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

from heat_workflow import errors
from heat_workflow.store import Tx
from heat_workflow.taskqueue import TaskQueue, cancelling, reporting

KEPT_MOST = 1024 * 1024  # characters kept of one attempt
_KEEP_ALIVE = 15.0


@dataclasses.dataclass(frozen=True)
class Log:
    """Chunks of the present attempt above a number, and whether more may come."""

    attempt: int
    chunks: list[dict[str, Any]]
    over: bool


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


def read_log(tx: Tx, project_id: str, workflow_id: str, task_id: str, after: int) -> Log:
    task = cancelling.get_task(tx, project_id, workflow_id, task_id)
    return Log(task.attempt, tx.list_log(task.id, task.attempt, after), task.finished)


async def follow(queue: TaskQueue, project_id: str, workflow_id: str, task_id: str) -> AsyncIterator[bytes]:
    """The text of the chunks as they come, until the task is finished or gone."""
    after, attempt = -1, 0
    place = (project_id, workflow_id, task_id)
    while not queue.closed:
        try:
            log = await queue.wait_until(
                lambda seen: bool(seen.chunks) or seen.over, [f"task:{task_id}"], _KEEP_ALIVE, read_log, *place, after
            )
        except (errors.NotFound, errors.Unavailable):
            return
        if log.attempt != attempt:
            attempt, after = log.attempt, -1
            continue
        for chunk in log.chunks:
            yield chunk["text"].encode()
            after = chunk["n"]
        if log.over and not log.chunks:
            return
