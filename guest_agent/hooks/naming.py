# SPDX-License-Identifier: Apache-2.0
"""Naming: whether a text reads a variable that it has not set itself.

Only the text is looked at, so this is for what the agent knows to be missing from the environment: a text that reads
such a variable would find it empty. It is wrong now and then, and then on the side of a refusal, which says on which
line and what to write instead. Comments are no reads, unless a here-document may hold the line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Optional

# Interpreters in whose texts ``$name`` is a variable of the program's own, never the environment's.
OWN_DOLLAR = ("perl", "php", "awk", "gawk", "mawk", "pwsh", "tclsh", "expect", "ruby")

_ACCESSOR = r"(?<![A-Za-z])(?:environb?|[gG]etenv|LookupEnv|ENV|ENVIRON|_ENV|_SERVER|[eE]nv)"
_ANY_ACCESSOR = re.compile(r"\b(?:environ|getenv|process\.env|ENV|ENVIRON|Getenv)\b")
_READS_FILE = re.compile(r"HW_INPUTS_FILE|stdin|STDIN|/dev/fd/0")
_SETS_ALL = re.compile(  # what is loaded at once, or by a name in a variable
    r"\beval\b|\bsource\b|^\s*\.\s|\b(?:export|declare|typeset|readonly|local)\s+[^\n=]{0,200}\$"
    r"|\bprintf\s+-v\s+['\"]?\$|\bread\b[^\n]{0,200}\$",
    re.MULTILINE,
)


def find_read(text: str, name: str, interpreter: str, given: Collection[str] = ()) -> Optional[int]:
    """The number of the first line that reads the environment variable, None if none does.

    ``interpreter`` is the base name of what runs the text, ``given`` are the names of inputs. A read after the
    text has set the variable is none.
    """
    if name not in text:
        return None
    text = _without_comments(text)
    plain = re.escape(name)
    quoted = rf"['\"]{plain}['\"]"
    reads = [
        rf"{_ACCESSOR}\s*(?:\.\s*\w+[?]?)?\s*[\[({{]\s*[bru]?(?:{quoted}|{plain})\s*[\])}},](?!\s*=[^=~])",
        rf"(?:process\.env\.|\$env:|\$ENV\.){plain}(?!\w)",
        rf"\bprintenv\s+['\"]?{plain}(?![\w=])",
        rf"\b(?:print)?env\s*\|[^\n]{{0,200}}(?<!\w){plain}(?!\w)",
        rf"\{{[^{{}}\n]{{0,200}}(?<!\w){plain}(?!\w)[^{{}}\n]{{0,200}}\}}\s*=\s*process\.env(?!\w)",
    ]
    if _ANY_ACCESSOR.search(text) and not _READS_FILE.search(text):
        reads.append(quoted)
    sets: list[str] = []
    if not interpreter.startswith(OWN_DOLLAR) and not _begins_with_another(text, name, given):
        reads += _shell_reads(plain)
        sets = _shell_sets(plain)
    loads = [_SETS_ALL.pattern] if sets and _READS_FILE.search(text) else []
    return _first_read(text, reads, [*sets, *loads])


def find_fact(text: str, name: str) -> Optional[int]:
    """The number of the first line of a Puppet manifest that reads the fact, None if none does."""
    if name not in text:
        return None
    text = _without_comments(text)
    plain = re.escape(name)
    reads = [
        rf"(?<!\\)\$\{{?(?:::)?{plain}(?![\w:])",
        rf"\bfacts\s*\[\s*['\"]{plain}['\"]",
        rf"\b(?:fact|getvar)\s*\(\s*['\"](?:facts\.)?(?:::)?{plain}['\"]",
    ]
    parameters = rf"\b(?:class|define|function|plan)\b[^{{}}(]{{0,200}}\([^{{}}]{{0,3000}}?\${plain}(?!\w)"
    return _first_read(
        text, reads, [rf"\${plain}\s*=(?![=~>])", parameters, rf"\|[^|\n]{{0,200}}\${plain}(?!\w)[^|\n]{{0,200}}\|"]
    )


def _begins_with_another(text: str, name: str, given: Collection[str]) -> bool:
    """Whether ``$my-name`` is the variable ``my`` and then a dash: ``my`` is there, or the text sets it."""
    first = re.match(r"[A-Za-z_]\w*", name, re.ASCII)
    if first is None or first[0] == name:
        return False
    return first[0] in given or _first(text, _shell_sets(re.escape(first[0]))) is not None


def _shell_reads(plain: str) -> list[str]:
    """The ways a shell reads a variable."""
    return [
        rf"(?<!\\)\$\{{[#!]?{plain}(?!\w)",
        rf"(?<![\\$])\${plain}(?!\w)",
        rf"(?:\beval\b|\s-c\s)[^\n]{{0,200}}\\\$\{{?{plain}(?!\w)",
        rf"\(\([^()\n]{{0,200}}(?<![\w$]){plain}(?!\w)[^()\n]{{0,200}}\)\)",
        rf"(?:\s-v|\b(?:declare|typeset) -p|\bexport)\s+['\"]?{plain}(?![\w=+])",
    ]


def _shell_sets(plain: str) -> list[str]:
    """The ways a shell sets a variable; a value made of the variable itself reads it first."""
    value = rf"(?!['\"]?\$\([^\n)]{{0,200}}\$\{{?{plain}\b|[^\s;(]{{0,200}}\$\{{?{plain}\b)"
    return [
        rf"(?:^|[\s;&|(`'\"]){plain}\+?={value}(?!=)",
        rf"\bread\b[^\n;|&]{{0,200}}\s{plain}(?!\w)",
        rf"\bfor\s+{plain}\b",
        rf"\b(?:local|declare|typeset|unset)\b(?!\s+-p)[^\n;=$]{{0,200}}\s{plain}(?![\w=])",
        rf"\b(?:mapfile|readarray|printf\s+-v|getopts)\b[^\n;|]{{0,200}}\s{plain}(?!\w)",
    ]


def _first_read(text: str, reads: Iterable[str], sets: Iterable[str]) -> Optional[int]:
    read = _first(text, reads)
    was_set = _first(text, sets)
    if read is None or (was_set is not None and was_set <= read):
        return None
    return text.count("\n", 0, read) + 1


def _first(text: str, patterns: Iterable[str]) -> Optional[int]:
    found = (re.search(pattern, text, re.MULTILINE) for pattern in patterns)
    return min((match.start() for match in found if match), default=None)


def _without_comments(text: str) -> str:
    """Lines that are comments made empty, so that numbers stay; a here-document's lines are none."""
    return text if "<<" in text else re.sub(r"(?m)^[ \t]*#(?!!).*$", "", text)
