# SPDX-License-Identifier: Apache-2.0
"""Hook of the executables made for heat-config: any program in ``hooks_dirs`` that is named after the group.

The program gets the config as JSON on its standard input (``id name group config inputs[] outputs[] options
creation_time``) and answers with one JSON object on its standard output: ``deploy_status_code``, ``deploy_stdout``,
``deploy_stderr`` and outputs by name. What it writes to its standard error is the log.

* A status code in the answer is the verdict; without one the exit status is. Text that is no JSON object is the
  standard output of the tool.
* No answer at all with exit status 0, or an empty one where outputs are declared, is a failure: that is how such
  programs behave when the tool they need is missing.
* Inputs of type String are text ("" for null); all others are the JSON values they are.
* A companion ``50-heat-config-<group>`` is run before it if there is one, in ``hooks_dirs`` or where os-refresh-config
  has them. Both find the configs that live on this machine in the file ``HEAT_SHELL_CONFIG`` names; a config whose task
  was deleted, undone or has run anew under another id is not in it. A companion that fails is a failed task.

``id`` is the id of the task: an attempt after the first has the same, a later update another. A second run is the
program's to bear.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from typing import Any

from guest_agent.errors import HookError, StateError
from guest_agent.hooks.contract import Command, Exit, NewFile, Place, Verdict
from guest_agent.hooks.environment import as_text, base_environment
from guest_agent.hooks.shebang import check_program
from guest_agent.hooks.telling import bounded, exit_reason, find_line, find_state, said_reason
from guest_agent.live_configs import LiveConfigs
from guest_agent.outputs import within_limits
from guest_agent.pump import Capture
from guest_agent.state_dir import check_parents
from guest_agent.task import Input, Task
from guest_agent.untrusted import as_status_code, read_json

COMPANION = "50-heat-config-"
COMPANION_DIRS = ("/usr/libexec/os-refresh-config/configure.d", "/opt/stack/os-config-refresh/configure.d")

_GROUP = re.compile(r"[A-Za-z0-9_.:-]{1,255}", re.ASCII)
_CONFIG_FILE = "config.json"
_LIVE_FILE = "heat-config"
_STEPS_FILE = "steps"
_STEPS = """#!/bin/sh
{companion} </dev/null >&2 || {{
    code=$?
    echo "{name} ended with exit status $code, the hook was not run" >&2
    exit $code
}}
exec {hook}
"""


class HeatConfigHook:
    """Runs the program of the task's group. The directories are looked through anew each time."""

    name = "heat-config"

    def __init__(self, directories: tuple[str, ...], live: LiveConfigs, shell_config: str = "") -> None:
        """``shell_config`` is where live configs are to be written; without it they lie in the run directory."""
        self._directories = directories
        self._shell_config = shell_config
        self.live = live

    def names(self) -> list[str]:
        """The programs there are."""
        return sorted(name for name in self._programs(self._directories) if not name.startswith(COMPANION))

    def has(self, group: str) -> bool:
        """Whether there is a program for the group."""
        return self._find(group) is not None

    def prepare(self, task: Task, place: Place) -> Command:
        """The program, after its companion if it has one."""
        program = self._find(task.group)
        if program is None:
            raise HookError(f"unknown hook {task.group!r}: this agent has {', '.join(self.names())}")
        companion = self._programs((*self._directories, *COMPANION_DIRS)).get(COMPANION + os.path.basename(program))
        for path in filter(None, (program, companion)):
            _check_trust(path)
            check_program(path, place.search_path)
        config = as_config(task)
        live = self._shell_config or place.file(_LIVE_FILE)
        files = [
            NewFile(_CONFIG_FILE, json.dumps(config)),
            NewFile(
                os.path.basename(live),
                json.dumps(self.live.enter(task, config)),
                directory=os.path.dirname(live) if self._shell_config else "",
            ),
        ]
        if companion is not None:
            files.append(NewFile(_STEPS_FILE, _steps(companion, program), 0o700))
        return Command(
            hook=self.name,
            argv=(program,) if companion is None else (place.file(_STEPS_FILE),),
            env={**base_environment(task, place), "HEAT_SHELL_CONFIG": live},
            files=tuple(files),
            stdin=_CONFIG_FILE,
            answers=True,
        )

    @staticmethod
    def verdict(ended: Exit) -> Verdict:
        """What the answer says; the exit status where it says nothing."""
        if ended.answer is None and ended.stdout.lstrip().startswith("{"):
            return _failure(ended, "the answer of the hook is longer than anything reads")
        if ended.answer is not None and not ended.answer.strip():
            line = find_line(ended.stderr)
            if ended.code != 0:
                return _failure(ended, said_reason(ended.code, line, "the hook gave no answer"))
            said = f"; it last said: {bounded(line)}" if line else ""
            return _failure(ended, f"the hook gave no answer: the tool it runs may be missing{said}", 1)
        try:
            answer = None if ended.answer is None else _json_object(ended.answer)
        except RecursionError:
            return _failure(ended, "the answer of the hook is nested deeper than anything reads", ended.code or 1)
        if answer is None:
            reason = "" if ended.code == 0 else exit_reason(ended.code, ended.stderr, ended.stdout)
            return Verdict(ended.code == 0, ended.code, ended.stdout, ended.stderr, {}, reason)
        return _of_answer(ended, answer)

    def _find(self, group: str) -> str | None:
        """By the group's name as it is, then as heat-config writes it: letters, digits, ``-`` and ``_`` alone."""
        if not _GROUP.fullmatch(group) or group.startswith(COMPANION):
            return None
        programs = self._programs(self._directories)
        return programs.get(group) or programs.get(re.sub(r"[.:]", "", group))

    def _programs(self, directories: tuple[str, ...]) -> dict[str, str]:
        """Executables by name; the first directory that has one counts. The server's word never becomes a path."""
        found: dict[str, str] = {}
        for directory in directories:
            try:
                names = os.listdir(directory)
            except OSError:
                continue
            for name in names:
                path = os.path.join(directory, name)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    found.setdefault(name, path)
        return found


def as_config(task: Task) -> dict[str, Any]:
    """The task as heat-config shows it, with the inputs that Heat derives where they are not given."""
    given = [{"name": item.name, "type": item.type, "value": _value(item)} for item in task.given]
    derived = {
        "deploy_server_id": task.server,
        "deploy_action": task.action,
        "deploy_stack_id": task.stack_id,
        "deploy_resource_name": task.resource,
        "deploy_signal_transport": "NO_SIGNAL",
    }
    names = {item["name"] for item in given}
    return {
        "id": task.attempt.task_id,
        "name": re.sub(r"[^A-Za-z0-9_.-]", "-", task.name),
        "group": task.group,
        "config": "" if task.config is None else task.config,
        "inputs": given
        + [{"name": name, "type": "String", "value": value} for name, value in derived.items() if name not in names],
        "outputs": [{"name": out.name, "type": "String", "error_output": out.error_output} for out in task.outputs],
        "options": task.options,
        "creation_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _value(item: Input) -> Any:
    return as_text(item) if item.type == "String" else item.value


def _steps(companion: str, program: str) -> str:
    return _STEPS.format(companion=shlex.quote(companion), name=os.path.basename(companion), hook=shlex.quote(program))


def _check_trust(path: str) -> None:
    """HookError when somebody else than root or the agent's user could have changed the program or put it there."""
    try:
        check_parents(os.path.join(os.path.realpath(path), "."))  # the program counts as a parent: it is checked too
    except StateError as error:
        raise HookError(f"hook {path} is not run: {error}", 126) from error


def _of_answer(ended: Exit, answer: dict[str, Any]) -> Verdict:
    declared = {output.name for output in ended.declared}
    given = {name: value for name, value in answer.items() if name in declared}
    outputs, problems = within_limits(given)
    due = sorted(output.name for output in ended.declared if not output.error_output)
    stdout, stderr = (_shortened(answer.get(f"deploy_{stream}")) for stream in ("stdout", "stderr"))
    said = answer.get("deploy_status_code")
    code = ended.code if said is None else as_status_code(said)
    if code is None:
        reason = f"the hook answered with the status code {str(said)[:40]!r}, which is no number of 32 bits"
    elif code != 0:
        reason = said_reason(code, find_state(stderr) or find_state(stdout) or find_line(stderr, ended.stderr, stdout))
    elif not answer and due:
        code, reason = 1, f"the hook gave an empty answer where outputs were due: {', '.join(due)}"
    else:
        return Verdict(True, 0, stdout, stderr or ended.stderr, outputs, "; ".join(problems))
    return Verdict(False, code, stdout, stderr or ended.stderr, outputs, "; ".join([reason, *problems]))


def _failure(ended: Exit, reason: str, code: int | None = None) -> Verdict:
    return Verdict(False, ended.code if code is None else code, ended.stdout, ended.stderr, {}, reason)


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        answer = read_json(data)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _shortened(value: Any) -> str:
    """What the tool wrote, cut in the middle as any other stream is."""
    if value is None:
        return ""
    stream = Capture()
    stream.feed((value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace"))
    return stream.text()
