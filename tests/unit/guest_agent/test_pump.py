# SPDX-License-Identifier: Apache-2.0
"""What a hook writes: whole when it fits, head and tail when it does not, never more in memory (F22)."""

from __future__ import annotations

import hashlib

import pytest

from guest_agent.pump import CHUNK, HEAD, TAIL, Capture


def _captured(data: bytes, chunk: int = CHUNK) -> Capture:
    capture = Capture()
    for start in range(0, len(data), chunk):
        capture.feed(data[start : start + chunk])
    return capture


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1, HEAD + TAIL])
@pytest.mark.parametrize("chunk", [7, CHUNK])
def test_what_fits_is_kept_as_written(size: int, chunk: int) -> None:
    text = "".join(chr(97 + number % 26) for number in range(size))
    capture = _captured(text.encode(), chunk)
    assert capture.text() == text
    assert not capture.truncated


def test_what_does_not_fit_keeps_head_and_tail_and_says_how_much_is_missing() -> None:
    data = b"H" * HEAD + b"m" * 1000 + b"T" * TAIL
    capture = _captured(data, 4096)
    assert capture.text() == "H" * HEAD + "\n[... 1000 bytes left out ...]\n" + "T" * TAIL
    assert capture.info() == {
        "total_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "truncated": True,
    }


def test_a_character_is_not_torn_where_something_is_left_out() -> None:
    assert "\N{REPLACEMENT CHARACTER}" not in _captured(b"x" + "€".encode() * 40000).text()
    assert "\N{REPLACEMENT CHARACTER}" not in _captured("€".encode() * 40000).text()


def test_what_no_store_takes_is_shown_as_replaced() -> None:
    assert _captured(b"a\0b\xffc").text() == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"


def test_memory_stays_bounded() -> None:
    capture = Capture()
    for _ in range(500):
        capture.feed(b"y" * CHUNK)
    assert capture.total == 500 * CHUNK
    assert len(capture.text()) < HEAD + TAIL + 100
