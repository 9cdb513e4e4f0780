# SPDX-License-Identifier: Apache-2.0
"""The contract of a hook: a task becomes a command, an exit becomes a verdict. A hook runs nothing itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Protocol

from guest_agent.task import Output, Task

OUTPUTS_FOLDER = "outputs"
OUTPUTS_STEM = "o"
INPUTS_FILE = "inputs.json"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Place:
    """Where one attempt runs: its own directory, 0700, removed after the report. ``search_path`` is the hook's PATH."""

    path: str
    search_path: str = PATH

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, name)

    @property
    def outputs_path(self) -> str:
        """What ``heat_outputs_path`` holds: the tool writes ``${heat_outputs_path}.<output name>``."""
        return os.path.join(self.path, OUTPUTS_FOLDER, OUTPUTS_STEM)


@dataclass(frozen=True)
class NewFile:
    """A file that must be there before the command starts: in the run directory, or else put into ``directory``.

    A directory that is not there is made (0700); what had the name there before is replaced.
    """

    name: str
    text: str = field(repr=False)
    mode: int = 0o600
    directory: str = ""


@dataclass(frozen=True)
class Command:
    """What the runner starts. ``argv[0]`` is an absolute path; no input may stand in ``argv``.

    ``hook`` names the hook whose verdict counts. ``stdin`` names one of ``files``. With ``shell_fallback`` a program
    the kernel cannot execute (no ``#!`` line) is run by /bin/sh. With ``answers`` the standard output is the hook's
    answer, kept whole for the verdict, and no text to be shown as it comes. ``notes`` are told with the outcome,
    ``hint`` with the reason of a failure.
    """

    hook: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    files: tuple[NewFile, ...] = field(repr=False)
    stdin: str = INPUTS_FILE
    cwd: str = "/"
    shell_fallback: bool = False
    answers: bool = False
    notes: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Exit:
    """How a command ended by itself. ``code`` is the exit status, or 128 + the signal that killed it.

    ``answer`` is the whole standard output of a command that answers, None when it was longer than anybody reads.
    """

    code: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    outputs: dict[str, Any] = field(repr=False)
    declared: tuple[Output, ...] = ()
    answer: bytes | None = field(default=b"", repr=False)
    hint: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the exit means for the task."""

    succeeded: bool
    code: int | None
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    outputs: dict[str, Any] = field(repr=False)
    reason: str = ""


class Hook(Protocol):
    """What runs the tasks of one group, or of several. ``name`` is how a shim finds it again for the verdict."""

    name: str

    def prepare(self, task: Task, place: Place) -> Command:
        """The command for the task; HookError (a failed task) when it cannot be run here."""
        ...

    def verdict(self, ended: Exit) -> Verdict:
        """What the exit of that command means. Pure: the same exit gives the same verdict."""
        ...
