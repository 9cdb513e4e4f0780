# SPDX-License-Identifier: Apache-2.0
"""The live log's file: chunks in order, numbered by line, bounded."""

from __future__ import annotations

from guest_agent.live_log import FULL, KEPT_MOST, LogReader, LogWriter
from guest_agent.state_dir import StateDir


def test_chunks_are_numbered_and_read_once(state: StateDir) -> None:
    writer, reader = LogWriter(state.run), LogReader(state.run)
    out, err = writer.taker("stdout"), writer.taker("stderr")
    assert reader.next_chunks(10, 1000) == []
    out("aü".encode()[:2])
    out("aü".encode()[2:])
    err(b"bad\0")
    writer.write()
    assert reader.next_chunks(10, 1000) == []
    writer.write(due_only=False)
    assert reader.next_chunks(1, 1000) == [{"n": 0, "stream": "stdout", "text": "aü"}]
    assert reader.next_chunks(10, 1000) == [{"n": 1, "stream": "stderr", "text": "bad\N{REPLACEMENT CHARACTER}"}]
    assert reader.next_chunks(10, 1000) == []
    assert [chunk["n"] for chunk in LogReader(state.run).next_chunks(10, 1000)] == [0, 1]


def test_a_flood_ends_with_a_line_that_says_so(state: StateDir) -> None:
    writer, reader = LogWriter(state.run), LogReader(state.run)
    take = writer.taker("stdout")
    written = b"".join(b"%07d\n" % n for n in range(300_000))
    for start in range(0, len(written), 65536):
        take(written[start : start + 65536])
    writer.write(due_only=False)
    chunks: list[dict[str, object]] = []
    while part := reader.next_chunks(64, 1 << 19):
        chunks += part
    texts = [str(chunk["text"]) for chunk in chunks]
    assert [chunk["n"] for chunk in chunks] == list(range(len(chunks)))
    assert texts[-1].endswith(FULL)
    assert sum(map(len, texts)) < KEPT_MOST + 1000
    assert written.startswith("".join(texts).removesuffix(FULL).encode())
