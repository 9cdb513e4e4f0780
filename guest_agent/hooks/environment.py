# SPDX-License-Identifier: Apache-2.0
"""A hook's environment, built from nothing: a few base names, the task's facts, its inputs."""

from __future__ import annotations

import fnmatch
import json
import os
import pwd
import re
import shutil
from typing import Any

from guest_agent.errors import HookError
from guest_agent.hooks.contract import INPUTS_FILE, NewFile, Place
from guest_agent.task import Input, Task
from guest_agent.user import find_user

STEERING = (
    *("PATH", "IFS", "ENV", "BASH_ENV", "BASH_FUNC*", "HOME", "SHELL", "HW_*"),
    *("LD_*", "GCONV_PATH", "SSL_*", "GIT_*", "PYTHON*", "PERL5*", "RUBY*", "NODE_OPTIONS"),
)
ONE_LIMIT = 128 * 1024 - 1  # the kernel's MAX_ARG_STRLEN, with its NUL
ALL_LIMIT = 1024 * 1024  # half of what the kernel takes under the usual stack limit

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def build_environment(task: Task, place: Place) -> tuple[dict[str, str], tuple[str, ...]]:
    """The environment and notes on inputs that did not fit into it.

    Each input that is not hidden stands under its own name and under ``HW_INPUT_<name>``; a name that would steer the
    hook itself only under the latter, a name that is no variable name under neither. All are in ``inputs.json``.
    """
    env: dict[str, str] = {}
    too_large: list[str] = []
    room = ALL_LIMIT
    for item in task.inputs:
        text = as_text(item)
        if item.hidden or "\0" in text:
            continue
        entries = dict.fromkeys(_names(item.name), text)
        sizes = [len(os.fsencode(f"{name}={value}")) + 1 for name, value in entries.items()]
        if sizes and (max(sizes) > ONE_LIMIT or sum(sizes) > room):
            too_large.append(item.name)
            continue
        room -= sum(sizes)
        env.update(entries)
    env.update(base_environment(task, place))
    if not too_large:
        return env, ()
    return env, (f"inputs too large for the environment, only in $HW_INPUTS_FILE: {', '.join(too_large)}",)


def inputs_file(task: Task) -> NewFile:
    """All inputs, hidden ones too, as one JSON object; it is also the hook's standard input."""
    return NewFile(INPUTS_FILE, json.dumps({item.name: item.value for item in task.inputs}))


def find_program(name: str, place: Place) -> str:
    """The path of a program that the hook needs; HookError, which fails the task, when this machine has it not."""
    found = shutil.which(name, path=place.search_path)
    if found is None:
        raise HookError(f"{name} is not on this machine (looked in {place.search_path}); install it and run again", 127)
    return os.path.abspath(found)


def is_refused(name: str) -> bool:
    """Whether an input of that name must not be exported under it. Proxies are refused in either case."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in STEERING) or name.lower().endswith("_proxy")


def as_text(item: Input) -> str:
    """The value as an environment variable holds it.

    Text as it is; nothing ("null") is empty; maps, lists, numbers and booleans are JSON. A boolean given to a String
    input reads ``True`` or ``False``, as heat-config has always told it.
    """
    value: Any = item.value
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) and item.type == "String":
        return str(value)
    return json.dumps(value)


def _names(name: str) -> list[str]:
    if not _VARIABLE.fullmatch(name):
        return []
    own = [] if is_refused(name) else [name]
    return [*own, f"HW_INPUT_{name}"]


def base_environment(task: Task, place: Place) -> dict[str, str]:
    """What every hook has: nothing of the agent's own environment, no input."""
    user = find_user(task.run_as).environment() if task.run_as else {"HOME": _home()}
    return {
        "LANG": "C.UTF-8",
        "PATH": place.search_path,
        **user,
        "HW_TASK_ID": task.attempt.task_id,
        "HW_TASK_NAME": task.name,
        "HW_WORKFLOW_ID": task.workflow_id,
        "HW_ACTION": task.action,
        "HW_BOOT": "0",
        "HW_ATTEMPT": str(task.attempt.attempt),
        "HW_SERVER": task.server,
        "HW_RUN": task.attempt.run_name,
        "HW_INPUTS_FILE": place.file(INPUTS_FILE),
        "heat_outputs_path": place.outputs_path,
    }


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"
