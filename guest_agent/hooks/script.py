# SPDX-License-Identifier: Apache-2.0
"""Hook of group ``script``: the config is a program; it reads its inputs and writes its outputs as heat-config's do.

The text is written to a file (0700) and executed, so its first line chooses the interpreter; without a ``#!``
line /bin/sh runs it. Inputs are environment variables, also ``HW_INPUT_<name>``, and ``inputs.json`` (path in
``HW_INPUTS_FILE``, and standard input). An output is the content of ``${heat_outputs_path}.<output name>``. Exit
status 0 is success. The working directory is ``/``.

A script is not started when it reads an input as a variable that cannot be one: it is hidden, or too large.

A second run is the author's to bear: the script is run again from its first line, in a new empty run directory.
"""

from __future__ import annotations

from guest_agent.errors import HookError
from guest_agent.hooks.contract import Command, Exit, NewFile, Place, Verdict
from guest_agent.hooks.environment import build_environment, inputs_file
from guest_agent.hooks.naming import find_read
from guest_agent.hooks.shebang import check_interpreter, find_hint, find_interpreter
from guest_agent.hooks.telling import exit_reason
from guest_agent.task import Task


class ScriptHook:
    """Runs the config as a program."""

    name = "script"

    def prepare(self, task: Task, place: Place) -> Command:
        """The config as an executable file."""
        text = task.config if task.config is not None else ""
        if not isinstance(text, str):
            raise HookError(f"a config of group script must be text, this one is a {type(text).__name__}")
        check_interpreter(text, place.search_path, "the script")
        interpreter = find_interpreter(text)
        given = frozenset(item.name for item in task.inputs)
        env, notes = build_environment(task, place, lambda name: find_read(text, name, interpreter, given))
        return Command(
            hook=self.name,
            argv=(place.file("config"),),
            env=env,
            files=(NewFile("config", text, 0o700), inputs_file(task)),
            shell_fallback=True,
            notes=notes,
            hint=find_hint(text),
        )

    def verdict(self, ended: Exit) -> Verdict:
        """Success is exit status 0; the reason of a failure is the last line of standard error, else of output."""
        reason = "" if ended.code == 0 else exit_reason(ended.code, ended.stderr, ended.stdout, hint=ended.hint)
        return Verdict(ended.code == 0, ended.code, ended.stdout, ended.stderr, ended.outputs, reason)
