# SPDX-License-Identifier: Apache-2.0
"""What a hook left as outputs, read with distrust: declared names only, regular files of its own, bounded."""

from __future__ import annotations

import json
from typing import Any

from guest_agent.folder import Folder, read_up_to
from guest_agent.hooks.contract import OUTPUTS_STEM
from guest_agent.task import Output
from guest_agent.untrusted import is_finite

ONE_LIMIT = 256 * 1024
ALL_LIMIT = 512 * 1024
JSON_DEPTH = 24


def read_outputs(folder: Folder, declared: tuple[Output, ...], owner: int) -> tuple[dict[str, str], list[str]]:
    """The values by name, exactly as written, and for each one that is left out why.

    An output nobody wrote is simply not there.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    room = ALL_LIMIT
    for output in declared:
        try:
            data = _read(folder, f"{OUTPUTS_STEM}.{output.name}", owner, min(ONE_LIMIT, room))
            values[output.name] = _text(data)
            room -= len(data)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problems.append(f"output {output.name} left out: {_why(error)}")
    return values, problems


def within_limits(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values that a report can carry, of those a hook gave as JSON, and for each other one why it cannot."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    room = ALL_LIMIT
    for name, value in given.items():
        limit = min(ONE_LIMIT, room)
        try:
            check_json(value)
            length = len(value.encode() if isinstance(value, str) else json.dumps(value).encode())
            if length > limit:
                raise ValueError(f"too large, {length} bytes of {limit}")
        except ValueError as error:
            problems.append(f"output {name} left out: {_why(error)}")
            continue
        values[name] = value
        room -= length
    return values, problems


def check_json(value: Any, depth: int = JSON_DEPTH) -> None:
    """ValueError for what Python reads as JSON and stores do not take."""
    if depth == 0:
        raise ValueError("unreadable, it is nested too deep")
    if isinstance(value, str):
        value.encode()
        if "\0" in value:
            raise ValueError("unreadable, it holds a NUL character")
    elif isinstance(value, (int, float)) and not is_finite(value):
        what = "has more than 64 bits" if isinstance(value, int) else "is not finite"
        raise ValueError(f"unreadable, a number {what}")
    elif isinstance(value, (dict, list)):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            check_json(part, depth - 1)


def _read(folder: Folder, name: str, owner: int, limit: int) -> bytes:
    with folder.opened(name) as (fd, facts):
        if facts.st_uid != owner:
            raise ValueError(f"unreadable, it belongs to uid {facts.st_uid}")
        if facts.st_size > limit:
            raise ValueError(f"too large, {facts.st_size} bytes of {limit}")
        data = read_up_to(fd, limit + 1)
    if len(data) > limit:
        raise ValueError(f"too large, more than {limit} bytes")
    return data


def _text(data: bytes) -> str:
    text = data.decode("utf-8")
    if "\0" in text:
        raise ValueError("unreadable, it holds a NUL byte")
    return text


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "unreadable, it is not UTF-8 text"
    if isinstance(error, OSError):
        return f"unreadable, {error.strerror or 'it is not a regular file'}"
    return str(error)
