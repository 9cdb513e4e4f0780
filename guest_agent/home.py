# SPDX-License-Identifier: Apache-2.0
"""The agent's own file: whether somebody else could put another one in its place."""

from __future__ import annotations

import os
import zipimport

import guest_agent
from guest_agent.errors import StateError
from guest_agent.state_dir import check_parents


def find_own_file() -> str | None:
    """Where the one file is that the agent is run from, links followed; None for an agent that is not one file."""
    archive = _find_archive()
    return None if archive is None else os.path.realpath(archive)


def check_own_file() -> None:
    """StateError when others than root and the agent's user can change what it is run from.

    For the agent as one file alone; whoever runs it from a checkout minds that directory.
    """
    archive = _find_archive()
    if archive is None:
        return
    for path in (os.path.abspath(archive), os.path.realpath(archive)):
        check_parents(path)
    facts = os.stat(path)
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o022:
        raise StateError(
            f"{path} can be changed by others (uid {facts.st_uid}, mode {facts.st_mode & 0o7777:04o}); it must belong "
            "to root or to the agent's user, and be writable by nobody else"
        )


def _find_archive() -> str | None:
    loader = guest_agent.__loader__
    return loader.archive if isinstance(loader, zipimport.zipimporter) else None
