# SPDX-License-Identifier: Apache-2.0
"""What a hook left as outputs, read with distrust: declared names only, regular files of its own, bounded."""

from __future__ import annotations

from guest_agent.folder import Folder, read_up_to
from guest_agent.hooks.contract import OUTPUTS_STEM
from guest_agent.task import Output

ONE_LIMIT = 256 * 1024
ALL_LIMIT = 512 * 1024


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
    if isinstance(error, UnicodeDecodeError):
        return "unreadable, it is not UTF-8 text"
    if isinstance(error, OSError):
        return f"unreadable, {error.strerror or 'it is not a regular file'}"
    return str(error)
