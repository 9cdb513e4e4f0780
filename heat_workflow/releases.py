# SPDX-License-Identifier: Apache-2.0
"""Releases: the agents that were built, each under the digest of its bytes, and which of them new machines get."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from heat_workflow import errors

_NAME = re.compile(r"([0-9a-f]{64})\.pyz")
_CURRENT = "current"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Releases:
    """One directory of ``<sha256>.pyz`` files. A release is never changed, and removed by nobody but its operator.

    Several API processes read it while one command writes; each look sees whole files only.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def digests(self) -> list[str]:
        """Every release, the newest first; none when there is no directory."""
        try:
            found = [
                (entry.stat().st_mtime_ns, match[1])
                for entry in os.scandir(self.directory)
                if (match := _NAME.fullmatch(entry.name))
            ]
        except FileNotFoundError:
            return []
        return [digest for _, digest in sorted(found, reverse=True)]

    def find(self, digest: str) -> Path | None:
        """The file of that release. Only a digest is ever part of a path."""
        if not _DIGEST.fullmatch(digest):
            return None
        path = self.directory / f"{digest}.pyz"
        return path if path.is_file() else None

    def find_current(self) -> str | None:
        """The release that new machines get; None before there is one."""
        try:
            digest = (self.directory / _CURRENT).read_text().strip()
        except FileNotFoundError:
            return None
        return digest if self.find(digest) else None

    def add(self, content: bytes) -> str:
        """Keep a release and make it current; its digest. The same again changes nothing."""
        digest = hashlib.sha256(content).hexdigest()
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.find(digest) is None:
            self._write(f"{digest}.pyz", content)
        self.make_current(digest)
        return digest

    def make_current(self, digest: str) -> None:
        """Have new machines get that release; errors.NotFound names those there are."""
        if self.find(digest) is None:
            raise self.unknown(digest)
        self._write(_CURRENT, f"{digest}\n".encode())

    def unknown(self, digest: str) -> errors.NotFound:
        """The refusal of a release that is not here."""
        there = ", ".join(self.digests()[:20]) or "none; run heat-workflow-manage agent build"
        return errors.NotFound(f"there is no agent {digest[:64]!r}; there are: {there}")

    def _write(self, name: str, content: bytes) -> None:
        fresh = self.directory / f".{name}.{os.getpid()}"
        with open(fresh, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.directory / name)
