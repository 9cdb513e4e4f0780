# SPDX-License-Identifier: Apache-2.0
"""What ansible-playbook wrote, read for the tasks that failed, the hosts and the messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guest_agent.hooks.telling import bounded, find_line

HOSTS_SHOWN = 3

_TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \*+")
_FAILURE = re.compile(r"(?:fatal|failed): \[([^\]]*)\](?:: (FAILED|UNREACHABLE)!)?(?: \(item=(.*?)\))? =>(.*)")
_RECAP = re.compile(r"(\S+)\s+: ok=\d+ .*\bunreachable=(\d+)\s+failed=(\d+)")
_ERROR = re.compile(r"(?:ERROR! |\[ERROR\]: )(.*)")
_PLACE = re.compile(r"Origin: .*?([^/]*:\d+:\d+)$|The error appears to be in '.*?([^/']*)': (line \d+, column \d+)")
_WARNING = re.compile(r"\[(?:DEPRECATION )?WARNING\]: ")
_VAGUE = ("non-zero return code", "MODULE FAILURE", "Module result deserialization failed", "failed_when")


@dataclass(frozen=True)
class Failure:
    """One ``fatal:`` or ``failed:`` line; ``run`` numbers the tasks in the order in which they were begun."""

    run: int
    task: str
    host: str
    unreachable: bool
    item: str
    message: str


def find_reason(stdout: str, stderr: str) -> str:
    """Which tasks failed, where and why, in one line; else the error that kept the play from running."""
    failures = _failures(stdout) or _failures(stderr)
    if failures:
        return _in_words(_decisive(failures, stdout))
    return _find_error(stderr) or _find_error(stdout) or find_line(_without_warnings(stderr), _without_recap(stdout))


def _failures(text: str) -> list[Failure]:
    """All that counted: what was ignored is left out."""
    found: list[Failure] = []
    run, task = 0, ""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        begun = _TASK.fullmatch(line.rstrip())
        said = _FAILURE.fullmatch(line.rstrip())
        if begun:
            run, task = run + 1, begun[1]
        elif line.startswith("...ignoring") and found:
            ended = found[-1]
            found = [one for one in found if (one.run, one.host) != (ended.run, ended.host)]
        elif said:
            result = _result(said[4].strip(), lines[number + 1 :])
            found.append(Failure(run, task, said[1], said[2] == "UNREACHABLE", said[3] or "", _message(result)))
    return found


def _result(first: str, following: list[str]) -> dict[str, Any]:
    """The result of a task: JSON in one line or in several, or YAML, of which the texts at its margin are read."""
    block = first
    if first in ("", "{"):
        for line in following:
            if not line.startswith(("    ", "}")):
                break
            block += "\n" + line
    try:
        found = json.loads(block)
    except ValueError:
        texts = re.findall(r"""(?m)^ {0,4}['"]?(\w+)['"]?: *['"]?(.*?)['"]?,?$""", block)
        texts += re.findall(r'"(\w+)": "((?:[^"\\]|\\.)*)', block)
        found = {name: text.replace("''", "'") for name, text in texts if text not in ("|-", ">-", "|", ">", "[", "{")}
    return found if isinstance(found, dict) else {}


def _message(result: dict[str, Any]) -> str:
    """What went wrong: the message, and where it does not say so itself what the module or its program wrote."""
    if "censored" in result:
        return "its result is hidden by no_log"
    said = result.get("msg")
    if not said and result.get("failed_when_result"):
        said = "failed_when"
    text = "; ".join(map(str, said)) if isinstance(said, list) else str(said or "")
    message = " ".join(text.replace("Task failed: ", "", 1).split())
    if "assertion" in result:
        return f"{message}: {result['assertion']}"
    if not message or message.startswith(_VAGUE):
        parts = ("stderr", "module_stderr", "stdout", "module_stdout", "exception")
        line = find_line(*(str(result[part]) for part in parts if result.get(part)))
        message = ": ".join(filter(None, [message, line]))
    return message or "no message"


def _decisive(failures: list[Failure], stdout: str) -> list[Failure]:
    """The last failures of each host that has failed in the end: what a block rescued is not among them."""
    recap = [_RECAP.match(line) for line in stdout.split("\n")]
    lost = {row[1] for row in recap if row and (row[2], row[3]) != ("0", "0")}
    last = {_host(one): one.run for one in failures}
    return [one for one in failures if one.run == last[_host(one)] and (not lost or _host(one) in lost)] or failures[
        -1:
    ]


def _host(failure: Failure) -> str:
    """The inventory's name: a task that was delegated names two."""
    return failure.host.partition(" -> ")[0]


def _in_words(failures: list[Failure]) -> str:
    by_host: dict[str, list[Failure]] = {}
    for one in failures:
        by_host.setdefault(one.host, []).append(one)
    told = [_of_host(host, of_host) for host, of_host in sorted(by_host.items())[:HOSTS_SHOWN]]
    more = [f"hosts that failed besides: {len(by_host) - HOSTS_SHOWN}"] if len(by_host) > HOSTS_SHOWN else []
    return bounded("; ".join([*told, *more]))


def _of_host(host: str, failures: list[Failure]) -> str:
    first = failures[0]
    if first.unreachable:
        return f"task {first.task}: host {host} is unreachable: {first.message}"
    item = f" (item={first.item})" if first.item else ""
    more = f" (items that failed besides: {len(failures) - 1})" if len(failures) > 1 else ""
    return f"task {first.task} failed on {host}{item}: {first.message}{more}"


def _find_error(text: str) -> str:
    """The first error that ansible-playbook has with the playbook itself, with its place."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        error = _ERROR.match(line)
        if error is None:
            continue
        following = lines[number + 1 : number + 20]
        detail = following[0].strip() if following and following[0].startswith("  ") else ""
        place = next((found for one in following if (found := _PLACE.match(one))), None)
        where = f" ({' '.join(filter(None, place.groups()))})" if place else ""
        return bounded(" ".join(filter(None, [error[1].strip(), detail])) + where)
    return ""


def _without_warnings(text: str) -> str:
    """The text less its warnings, which go on until an empty line or the next message."""

    def kept() -> Iterator[str]:
        inside = False
        for line in text.split("\n"):
            inside = bool(_WARNING.match(line)) or (inside and bool(line.strip()) and not line.startswith("["))
            if not inside:
                yield line

    return "\n".join(kept())


def _without_recap(text: str) -> str:
    return text.partition("\nPLAY RECAP ")[0]
