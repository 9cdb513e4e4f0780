# SPDX-License-Identifier: Apache-2.0
"""Records on disk: JSON under a checksum, so that a damaged one is known as damaged."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

from guest_agent.errors import DamagedRecord
from guest_agent.folder import Folder

LIMIT = 16 * 1024 * 1024
_HEAD = re.compile(rb"hw1 ([0-9a-f]{8}) ([0-9]{1,9})\n")

Record = dict[str, Any]


def write_record(folder: Folder, name: str, record: Record, *, durable: bool = True) -> None:
    """Put the record under ``name``; when it returns it survives a power cut (file and name flushed)."""
    folder.replace(name, encode(record), durable=durable)


def read_record(folder: Folder, name: str) -> Record:
    """The record under ``name``; FileNotFoundError when there is none, DamagedRecord when it is not whole."""
    try:
        data = folder.read(name, LIMIT)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedRecord(f"{folder.path}/{name}: {error.strerror or error}") from error
    return decode(data, f"{folder.path}/{name}")


def encode(record: Record) -> bytes:
    """One line with checksum and length, then the JSON."""
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"hw1 %08x %d\n" % (zlib.crc32(body), len(body)) + body


def decode(data: bytes, where: str) -> Record:
    """The record in ``data``, or DamagedRecord naming ``where``."""
    head = _HEAD.match(data)
    body = data[head.end() :] if head else b""
    if head is None or len(body) != int(head[2]) or zlib.crc32(body) != int(head[1], 16):
        raise DamagedRecord(f"{where}: torn or altered ({len(data)} bytes)")
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"{where}: no JSON under a good checksum") from error
    if not isinstance(record, dict):
        raise DamagedRecord(f"{where}: not a record")
    return record
