# SPDX-License-Identifier: Apache-2.0
"""Pages: list answers that end at a number of items, and at a size, whichever comes first.

Items are read in small batches and put into JSON one by one, where the store works, so that hardly more of them stands
in memory at once than an answer may hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

import pydantic_core

T = TypeVar("T")
PAGE_MOST = 1024 * 1024  # bytes of items; the first one is shown whatever it has


def fitting(views: Iterable[T], limit: int) -> tuple[list[tuple[T, bytes]], bool]:
    """The first of the views that fit on a page, each with its JSON; and whether there are more."""
    kept: list[tuple[T, bytes]] = []
    size = 0
    for view in views:
        text = pydantic_core.to_json(view)
        if kept and (len(kept) == limit or size + len(text) > PAGE_MOST):
            return kept, True
        kept.append((view, text))
        size += len(text)
    return kept, False


def page(noun: str, views: Iterable[dict[str, Any]], limit: int, key: str = "id", **more: Any) -> bytes:
    """The answer. ``next_marker``, where the next page starts, is the last item's ``key``; on the last page None."""
    kept, ended = fitting(views, limit)
    return written(noun, [text for _, text in kept], next_marker=kept[-1][0][key] if ended else None, **more)


def written(noun: str, texts: Iterable[bytes], **more: Any) -> bytes:
    """An object of the items, which are JSON already, and what else it holds."""
    rest = "".join(f",{json.dumps(name)}:{pydantic_core.to_json(value).decode()}" for name, value in more.items())
    return b'{"%s":[%s]%s}' % (noun.encode(), b",".join(texts), rest.encode())
