# SPDX-License-Identifier: Apache-2.0
"""What is put behind the chunks of a log, so that head and tail of each stream can be read."""

from __future__ import annotations

import pytest

from guest_agent.live_log import FULL
from guest_agent.pump import HEAD, TAIL, Capture
from heat_workflow.taskqueue.logs import completed, rest_of

LONG = "".join(f"{n:06}\n" for n in range(20000))  # 140,000 bytes


def reported(text: str) -> str:
    """As an agent reports a stream."""
    capture = Capture()
    capture.feed(text.encode())
    return capture.text()


def gap(size: int) -> str:
    return f"\n[... {size} bytes left out ...]\n"


@pytest.mark.parametrize(
    ("came", "text", "rest"),
    [
        ("", "", ""),
        ("", "short\n", "short\n"),
        ("short\n", "short\n", ""),
        ("sho", "short\n", "rt\n"),
        ("", LONG, LONG[:HEAD] + gap(len(LONG) - HEAD - TAIL) + LONG[-TAIL:]),
        (LONG[:1000], LONG, LONG[1000:HEAD] + gap(len(LONG) - HEAD - TAIL) + LONG[-TAIL:]),
        (LONG[:20000], LONG, gap(len(LONG) - 20000 - TAIL) + LONG[-TAIL:]),
        (LONG[:20000] + FULL, LONG, gap(len(LONG) - 20000 - TAIL) + LONG[-TAIL:]),
        (LONG[:-100], LONG, LONG[-100:]),
        (LONG, LONG, ""),
    ],
)
def test_g29_head_and_tail_can_be_read_whatever_came(came: str, text: str, rest: str) -> None:
    assert rest_of(came, reported(text)) == rest


def test_g29_a_report_that_was_cut_to_its_tail_says_so() -> None:
    assert rest_of("begin", "the end") == "\n[... some output left out ...]\nthe end"


def test_g29_what_is_put_behind_goes_on_counting() -> None:
    chunks = [{"n": 0, "stream": "stdout", "text": "a"}, {"n": 1, "stream": "stderr", "text": "x"}]
    assert completed(chunks, "ab", "x") == [*chunks, {"n": 2, "stream": "stdout", "text": "b"}]
    assert completed([], "", "y") == [{"n": 0, "stream": "stderr", "text": "y"}]
    assert completed(chunks, "", "") == chunks
