# SPDX-License-Identifier: Apache-2.0
"""Strict JSON: one reading of every body, the same whatever the store.

Python's parser takes duplicate keys (the last wins), NaN, NUL and lone surrogates; PostgreSQL refuses the last two and
SQLite mangles them. One validator in front gives every store the same answer.

Whoever may send a body may send the worst one, so no check costs more than a few passes over it, most of them in C:
what can be seen in the text is looked for there, not in the value.
"""

from __future__ import annotations

import array
import itertools
import json
import re
from typing import Any, NoReturn

from heat_workflow import errors

DEPTH_MOST = 32
PARTS_MOST = 100_000  # arrays, objects and keys of one body: each costs as much as hundreds of letters
_INT_MOST = 2**63
_INFINITE = (float("inf"), float("-inf"))
_TOLD_MOST = 64  # characters of a key that a message repeats
_STEPS = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_LONG_INT = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_MAYBE_INFINITE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{300}")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_FORBIDDEN = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def loads(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises Malformed and says what is wrong."""
    unescaped = body.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in body else body
    bare = b'"'.join(unescaped.split(b'"')[::2])  # what stands outside of strings
    if sum(map(bare.count, (b"[", b"{", b":"))) > PARTS_MOST:
        raise errors.Malformed(f"the body holds more than {PARTS_MOST} arrays, objects and keys")
    if _depth(bare) > DEPTH_MOST:
        raise errors.Malformed(f"the body is nested deeper than {DEPTH_MOST} levels")
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object if b":" in bare else None,
            parse_constant=_constant,
            parse_float=_float if _MAYBE_INFINITE.search(bare) else None,
        )
    except UnicodeDecodeError:
        raise errors.Malformed("the body is not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise errors.Malformed(f"the body is not JSON: {exc.msg} at line {exc.lineno} column {exc.colno}") from None
    except ValueError:  # Python itself reads no more than 4300 digits
        raise _beyond_64_bits() from None
    _refuse_large_integers(bare)
    if b"\\u" in unescaped and _FORBIDDEN.search(_PAIR.sub(b"", unescaped)):
        raise errors.Malformed("a string holds NUL or half of a surrogate pair")
    return value


def _depth(bare: bytes) -> int:
    """How deep the brackets go; of what is no JSON anything."""
    steps = array.array("b", bare.translate(_STEPS, _NOT_A_BRACKET))
    return max(itertools.accumulate(steps), default=0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise errors.Malformed(f"the key {name[:_TOLD_MOST]!r} stands twice in one object")
            seen.add(name)
    return value


def _constant(word: str) -> NoReturn:
    raise errors.Malformed(f"{word} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in _INFINITE:
        raise errors.Malformed("a number is too large")
    return value


def _refuse_large_integers(bare: bytes) -> None:
    for match in _LONG_INT.finditer(bare):
        if len(match[0]) > 20 or not -_INT_MOST <= int(match[0]) < _INT_MOST:
            raise _beyond_64_bits()


def _beyond_64_bits() -> errors.Malformed:
    return errors.Malformed("a number is beyond 64 bits")
