# SPDX-License-Identifier: Apache-2.0
"""Telling: the one line that says why a hook failed, found in what it wrote."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

from guest_agent.processes import signal_name

LINE_LIMIT = 600  # characters of the line: a reason holds 1024 bytes

_MEANINGS = {126: "a program was found but could not be executed", 127: "a command was not found"}
_NOISE = re.compile(
    r"\s*\++ .*"  # what ``set -x`` shows
    r"|\s*(?:See|Try|Run) ['\"`].*|.*--help['\"`]? for (?:more|help|usage).*"  # where to read on
    r"|\s+at \S.*[)\d]|\s+\.\.\. \d+ more|Node\.js v\d.*"  # the frames below an exception
    r"|\[\.\.\. \d+ bytes left out \.\.\.\]",
    re.IGNORECASE,
)
_CARRIAGE_RETURN = re.compile(r"\r['\"]?(?::|$)")  # a shell that names what it did not find
_REFUSED_STATE = re.compile(r"\bresult['\"]?: *false\b", re.IGNORECASE)
_STATE_COMMENT = re.compile(
    r"""\bcomment['"]?:\s*(?:'((?:[^']|'')*)'|"((?:[^"\\]|\\.)*)"|[|>]-?\n([^\n]*)|([^\n}]*?)(?=, \w+:|[\n}]|$))""",
    re.IGNORECASE,
)
_REQUISITE = "One or more requisite failed"


def exit_reason(code: int, *texts: str, hint: str = "") -> str:
    """The reason of a hook that ended with the exit status: what that means, and the line that says why.

    The line is taken from the first of the texts that has one, standard error before standard output.
    """
    return said_reason(code, find_line(*texts), hint)


def said_reason(code: int, line: str, hint: str = "") -> str:
    """The reason with a line that is known already, which may be empty; ``hint`` stands behind it in brackets."""
    meaning = _meaning(code)
    head = f"exit code {code} ({meaning})" if meaning else f"exit code {code}"
    told = f"{head}: {bounded(line)}" if line else f"{head}, and nothing was written"
    return f"{told} ({hint})" if hint else told


def find_line(*texts: str) -> str:
    """The last line that says something, of the first text that has one; what only surrounds an error is passed over.

    "" if nothing was written at all.
    """
    for noise in (True, False):
        for text in texts:
            for line in reversed(text.split("\n")):
                shown = _last_shown(line)
                if shown and not (noise and _NOISE.fullmatch(line.rstrip())):
                    return shown
    return ""


def find_state(text: str) -> str:
    """The comment of the first Salt state without success, "" if the text has none: YAML, JSON or as salt-call shows
    it."""
    found = ""
    for head, block in _states(text):
        comment = _STATE_COMMENT.search(block)
        if comment is None or not _REFUSED_STATE.search(block):
            continue
        said = next((part for part in comment.groups() if part is not None), "")
        words = " ".join(said.replace("''", "'").split())
        told = f"{head}: {words}" if head else words
        if not words.startswith(_REQUISITE):
            return told
        found = found or told
    return found


def bounded(line: str) -> str:
    """The line, not longer than a reason can hold."""
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 3] + "..."


def _meaning(code: int) -> str:
    if code - 128 in signal.valid_signals():
        return f"killed by {signal_name(code - 128)}"
    return _MEANINGS.get(code, "")


def _last_shown(line: str) -> str:
    """What a terminal would show of the line in the end: a progress bar writes over itself."""
    line = line.strip()
    return line if _CARRIAGE_RETURN.search(line) else line.rpartition("\r")[2].strip()


def _states(text: str) -> Iterator[tuple[str, str]]:
    """Each state with its name: what starts at the left margin, or with salt-call's rule."""
    for block in re.split(r"\n(?=[^\s}\-])|\n\s*-{8,}\n", text):
        head = block.partition("\n")[0][:LINE_LIMIT]
        name = re.match(r"['\"]?(\w+)_\|-(.*?)_\|-.*_\|-(\w+)['\"]?:", head)
        shown = re.search(r"\bID: (.*)", block)
        yield (f"{name[1]}.{name[3]} {name[2]}" if name else shown[1].strip() if shown else ""), block
