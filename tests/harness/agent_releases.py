# SPDX-License-Identifier: Apache-2.0
"""Harness: releases of the agent that were never built, made from one that was by exchanging texts in it."""

from __future__ import annotations

import io
import zipfile

from guest_agent import VERSION
from heat_workflow.releases import Releases

Edits = dict[str, tuple[str, str]]  # by the name of a file: the text there is once, and what takes its place


def add_release(releases: Releases, digest: str, version: str, edits: Edits) -> str:
    """The digest of a new release, like that with ``digest`` but for its version and the edits. It is not current."""
    base = releases.find(digest)
    assert base is not None
    return add_beside(releases, _edited(base.read_bytes(), {"guest_agent/__init__.py": (VERSION, version), **edits}))


def add_beside(releases: Releases, content: bytes) -> str:
    """The digest of a release that is served now, while the one that was current stays so."""
    chosen = releases.find_current()
    assert chosen is not None
    digest = releases.add(content)
    releases.make_current(chosen)
    return digest


def _edited(content: bytes, edits: Edits) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename in edits:
                old, new = edits[entry.filename]
                assert data.count(old.encode()) == 1, (entry.filename, old)
                data = data.replace(old.encode(), new.encode())
            target.writestr(entry, data)
    return made.getvalue()
