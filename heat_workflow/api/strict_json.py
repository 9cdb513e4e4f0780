# SPDX-License-Identifier: Apache-2.0
"""Strict JSON: one reading of every body, the same whatever the store.

Python's parser takes duplicate keys (the last wins), NaN, NUL and lone surrogates; PostgreSQL refuses the last two and
SQLite mangles them. One validator in front gives every store the same answer.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from heat_workflow import errors

DEPTH_MOST = 32
_INT_MOST = 2**63
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")


def loads(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises Malformed and says what is wrong."""
    if _depth_bound(body) > DEPTH_MOST:
        raise errors.Malformed(f"the body is nested deeper than {DEPTH_MOST} levels")
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_int, parse_float=_float
        )
    except UnicodeDecodeError:
        raise errors.Malformed("the body is not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise errors.Malformed(f"the body is not JSON: {exc.msg} at line {exc.lineno} column {exc.colno}") from None
    if b"\\u" in body or b"\0" in body:
        _refuse_unstorable(value)
    return value


def _depth_bound(body: bytes) -> int:
    """How deep the brackets go. Brackets inside strings count too, so only when the bound is passed look closely."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_MOST:
        return 0
    depth = deepest = 0
    in_string = escaped = False
    for byte in body:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise errors.Malformed(f"the key {twice!r} stands twice in one object")
    return value


def _constant(word: str) -> NoReturn:
    raise errors.Malformed(f"{word} is not JSON")


def _int(text: str) -> int:
    if len(text) > 20 or not -_INT_MOST <= int(text) < _INT_MOST:
        raise errors.Malformed("a number is beyond 64 bits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise errors.Malformed("a number is too large")
    return value


def _refuse_unstorable(value: Any) -> None:
    """NUL and lone surrogates cannot be stored everywhere, so they are refused everywhere."""
    if isinstance(value, str):
        if _FORBIDDEN.search(value):
            raise errors.Malformed("a string holds NUL or half of a surrogate pair")
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            _refuse_unstorable(name)
            _refuse_unstorable(item)
