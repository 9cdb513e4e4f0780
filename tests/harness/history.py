# SPDX-License-Identifier: Apache-2.0
"""Harness: what clients did and heard, written down outside the system, and the judgement over it.

A history is a file of lines, appended whole. ``invoke`` is written before a request leaves; then ``ok`` (2xx),
``fail`` (4xx: it changed nothing) or ``unknown`` (no answer, or 5xx: it may have been done or not). ``start`` stands
for a hook that an agent executes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

Json = dict[str, Any]


class History:
    """The file. Threads and processes may append to it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._numbers = itertools.count(1)
        self.answers = 0  # heard so far

    def close(self) -> None:
        os.close(self._fd)

    def invoke(self, who: str, method: str, path: str, body: Any) -> int:
        """The number of the call, for its end."""
        number = next(self._numbers)
        self._write({"n": number, "kind": "invoke", "who": who, "method": method, "path": path, "body": body})
        return number

    def answered(self, number: int, answer: requests.Response) -> None:
        kind = "ok" if answer.status_code < 300 else "fail" if answer.status_code < 500 else "unknown"
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        said = answer.json() if is_json and answer.content else None
        self._write({"n": number, "kind": kind, "status": answer.status_code, "answer": said})
        self.answers += 1

    def unanswered(self, number: int, reason: BaseException) -> None:
        self._write({"n": number, "kind": "unknown", "status": None, "answer": type(reason).__name__})

    def start(self, agent_id: str, task: Json) -> None:
        """The agent executes this attempt's hook now."""
        told = {name: task[name] for name in ("id", "attempt", "claim_id", "workflow_id")}
        self._write({"n": next(self._numbers), "kind": "start", "who": agent_id, **told})

    def _write(self, line: Json) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def lines(self) -> Iterator[Json]:
        with self.path.open() as file:
            for line in file:
                yield json.loads(line)


@dataclasses.dataclass
class Call:
    """One request and how it ended. ``place`` orders beginnings and ends of all calls."""

    who: str
    method: str
    path: str
    body: Any
    began: int
    kind: str = "unknown"
    status: int | None = None
    answer: Any = None
    ended: int | None = None


@dataclasses.dataclass(frozen=True)
class Start:
    """One execution of a hook."""

    who: str
    task_id: str
    attempt: int
    claim_id: str
    place: int


@dataclasses.dataclass(frozen=True)
class Lease:
    """A task in an agent's hands, as an answer gave it."""

    who: str
    task_id: str
    attempt: int
    claim_id: str
    asked: str  # the claim_id of the request
    inputs: str
    place: int


@dataclasses.dataclass(frozen=True)
class Said:
    """A report, and whether it was acknowledged."""

    who: str
    task_id: str
    attempt: int
    claim_id: str
    status: str
    content: str
    acked: bool


class Told:
    """A history read back."""

    def __init__(self, history: History) -> None:
        self.calls: list[Call] = []
        self.starts: list[Start] = []
        open_calls: dict[int, Call] = {}
        for place, line in enumerate(history.lines()):
            if line["kind"] == "invoke":
                call = Call(line["who"], line["method"], line["path"], line["body"], place)
                open_calls[line["n"]] = call
                self.calls.append(call)
            elif line["kind"] == "start":
                self.starts.append(Start(line["who"], line["id"], line["attempt"], line["claim_id"], place))
            else:
                call = open_calls[line["n"]]
                call.kind, call.status, call.answer, call.ended = line["kind"], line["status"], line["answer"], place

    @property
    def acknowledged(self) -> list[Call]:
        return [call for call in self.calls if call.kind == "ok"]

    def posted(self, *ends: str) -> list[Call]:
        """Calls of operators that change something, whose path ends so."""
        return [c for c in self.calls if c.method in ("POST", "PUT", "DELETE", "PATCH") and c.path.endswith(ends)]

    def leases(self) -> list[Lease]:
        found = []
        for call in self.acknowledged:
            task = call.answer.get("task") if isinstance(call.answer, dict) and "/agent/v1" in call.path else None
            if task is not None:
                asked = call.body.get("claim", call.body)["claim_id"]
                inputs = json.dumps(task["input_values"])
                place = call.ended or 0
                found.append(Lease(call.who, task["id"], task["attempt"], task["claim_id"], asked, inputs, place))
        return found

    def reports(self) -> list[Said]:
        found = []
        for call in self.calls:
            if call.path.endswith("/report"):
                found.append(_said(call.who, call.path.split("/")[-2], call.body, call.kind == "ok"))
            elif call.path.endswith("/claim"):
                answers = call.answer["reports"] if call.kind == "ok" and call.answer else []
                heard = {answer["task_id"]: answer["status"] == 200 for answer in answers}
                for body in call.body.get("reports", ()):
                    found.append(_said(call.who, body["task_id"], body, heard.get(body["task_id"], False)))
        return found


def _said(who: str, task_id: str, body: Json, acked: bool) -> Said:
    return Said(who, task_id, body["attempt"], body["claim_id"], body["status"], content(body), acked)


def content(body: Json) -> str:
    """What of a report is kept for ever, in one form for what was sent and what was stored."""
    kept = {name: body.get(name) for name in ("deploy_status_code", "deploy_stdout", "deploy_stderr")}
    return json.dumps(
        {
            **{n: v or ("" if n != "deploy_status_code" else v) for n, v in kept.items()},
            "outputs": body.get("outputs") or {},
        },
        sort_keys=True,
    )
