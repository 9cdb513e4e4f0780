# SPDX-License-Identifier: Apache-2.0
"""The first line of a program: the interpreter it names, and why the kernel would not start it."""

from __future__ import annotations

import os
import shutil
from typing import Optional

from guest_agent.errors import HookError

SHELLS = ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "busybox")
CRLF_HINT = "its lines end with a carriage return (CRLF); save it with Unix line ends"
BOM_HINT = "it begins with a byte order mark, so its first line is none for the kernel; save it without"

_CARRIAGE_RETURN = "\r"
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
_FIRST_LINE_LIMIT = 4096


def find_interpreter(text: str) -> str:
    """The base name of the interpreter that the first line names (``python3`` of ``/usr/bin/env python3``), ``sh``
    without such a line: the shell runs what the kernel cannot."""
    path, name = _named(text)
    return os.path.basename(name or path) or "sh"


def check_interpreter(text: str, search_path: str, what: str) -> None:
    """HookError, which names the interpreter, when ``what`` cannot be started because of its first line."""
    path, name = _named(text)
    if not path:
        return
    if text.partition("\n")[0].endswith(_CARRIAGE_RETURN):
        named = f"{path} {name}" if name else path
        raise HookError(
            f"{what} was not started: its first line, which names {named}, ends with a carriage return (CRLF); save it "
            "with Unix line ends",
            127,
        )
    if not os.path.exists(os.path.join("/", path)):
        raise _missing(what, path)
    if os.path.isdir(os.path.join("/", path)) or not os.access(os.path.join("/", path), os.X_OK):
        raise HookError(f"{what} was not started: {path}, which its first line names, cannot be executed", 126)
    if name and shutil.which(name, path=search_path) is None:
        raise _missing(what, f"{name} (looked in {search_path})")


def check_program(path: str, search_path: str) -> None:
    """The same for an executable on this machine; one that is no script, or cannot be read, is not looked at."""
    try:
        with open(path, "rb") as file:
            text = file.read(_FIRST_LINE_LIMIT).decode("utf-8", "replace")
    except OSError:
        return
    check_interpreter(text, search_path, path)


def find_hint(text: str) -> str:
    """What to say of a script that fails and was saved as Windows does; "" if that is no matter to what runs it."""
    if text.startswith(_BOM):
        return BOM_HINT
    return CRLF_HINT if "\r\n" in text and find_interpreter(text) in SHELLS else ""


def _missing(what: str, interpreter: str) -> HookError:
    return HookError(
        f"{what} was not started: the interpreter that its first line names is not on this machine: {interpreter}; "
        "install it and run again",
        127,
    )


def _named(text: str) -> tuple[str, Optional[str]]:
    """The path after ``#!``, "" if there is none; and the program that ``env`` is to find, None if it is not plain."""
    first = text.partition("\n")[0]
    words = "".join(c if c.isprintable() else " " for c in first[2:]).split() if first.startswith("#!") else []
    if not words:
        return "", None
    path, *given = words
    if os.path.basename(path) != "env":
        return path, None
    named = [word for word in (given[1:] if given[:1] == ["-S"] else given) if "=" not in word]
    return path, named[0] if named and not named[0].startswith("-") else None
