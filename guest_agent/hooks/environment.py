# SPDX-License-Identifier: Apache-2.0
"""A hook's environment, built from nothing: a few base names, the task's facts, its inputs."""

from __future__ import annotations

import fnmatch
import json
import os
import pwd
import re
import resource
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from guest_agent.errors import HookError
from guest_agent.hooks.contract import INPUTS_FILE, NewFile, Place
from guest_agent.hooks.shebang import check_program
from guest_agent.task import Input, Task
from guest_agent.user import find_user

STEERING = (
    *("PATH", "IFS", "ENV", "BASH_ENV", "BASH_FUNC*", "HOME", "SHELL", "HW_*"),
    *("LD_*", "GCONV_PATH", "SSL_*", "GIT_*", "PYTHON*", "PERL5*", "RUBY*", "NODE_OPTIONS"),
)
ONE_LIMIT = 128 * 1024 - 1  # the kernel's MAX_ARG_STRLEN, with its NUL
ALL_LIMIT = 1024 * 1024  # half of what the kernel takes under the usual stack limit

_LEAST_LIMIT = 128 * 1024  # what the kernel takes however small the stack
_TOLD_MOST = 3
_ERASED = "was hidden, and erased when the task had ended that is undone"
_TOO_LARGE = "is too large for the environment"


@dataclass(frozen=True)
class Variable:
    """An input under the name of one variable. ``read_on`` is the line on which the config reads that variable."""

    name: str
    item: Input
    text: str = field(repr=False)
    own: bool
    read_on: Optional[int]

    @property
    def size(self) -> int:
        """The bytes that it takes in an environment."""
        return _size(self.name, self.text)


@dataclass(frozen=True)
class Way:
    """How a hook exports an input: under its name with each of the prefixes, if the pattern takes the name. ``instead``
    says how else its author gets at one."""

    prefixes: tuple[str, ...]
    pattern: re.Pattern[str]
    instead: str


VARIABLES = Way(
    ("", "HW_INPUT_"),
    re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "read it from the file $HW_INPUTS_FILE or from standard input",
)
Read = Callable[[str], Optional[int]]


def build_environment(task: Task, place: Place, read: Read) -> tuple[dict[str, str], tuple[str, ...]]:
    """The environment and notes on inputs that did not fit into it; HookError names an input that the config reads as
    a variable and would not find.

    Each input that is not hidden, or that the task wants exported all the same, stands under its own name and under
    ``HW_INPUT_<name>``; a name that would steer the hook itself, or that the hook has for itself, only under the
    latter, a name that is no variable name under neither. All are in ``inputs.json``. ``read`` gives the line on which
    the config reads a variable, None if it does not.
    """
    return export(task, base_environment(task, place), read, VARIABLES)


def export(task: Task, base: dict[str, str], read: Read, way: Way) -> tuple[dict[str, str], tuple[str, ...]]:
    """The same for any hook; ``base`` is what it has besides."""
    env = dict(base)
    left_out: list[tuple[Variable, str]] = []
    room = all_limit() - sum(_size(name, value) for name, value in base.items())
    offered = [_variable(item, prefix, read) for prefix in way.prefixes for item in task.inputs]
    for one in sorted(offered, key=lambda one: one.read_on is None):
        why = _why_not(task, one, base, way) or _too_large(one, room)
        if why:
            left_out.append((one, why))
        else:
            env[one.name] = one.text
            room -= one.size
    missed = {one.item.name: _refusal(one, why, way, env) for one, why in reversed(left_out) if one.read_on is not None}
    if missed:
        raise HookError(f"not started: {'; '.join(list(missed.values())[:_TOLD_MOST])}")
    too_large = {one.item.name for one, why in left_out if why.startswith(_TOO_LARGE)}
    unseen = ", ".join(sorted(too_large - {one.item.name for one in offered if one.name in env}))
    return env, ((f"inputs too large for the environment, only in $HW_INPUTS_FILE: {unseen}",) if unseen else ())


def all_limit() -> int:
    """Bytes for the whole environment: half of what the kernel takes, a quarter of the stack's limit, so that the
    hook's own programs can have arguments besides; 1 MiB at most."""
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return ALL_LIMIT if stack == resource.RLIM_INFINITY else min(ALL_LIMIT, max(stack // 4, _LEAST_LIMIT) // 2)


def _variable(item: Input, prefix: str, read: Read) -> Variable:
    name = f"{prefix}{item.name}"
    return Variable(name, item, as_text(item), not prefix, read(name))


def _why_not(task: Task, one: Variable, base: Collection[str], way: Way) -> str:
    """Why the input is not exported under that name, whatever its size; "" if it is."""
    if one.item.erased:
        return _ERASED
    if one.item.hidden and one.item.name not in task.environment_inputs:
        return "is hidden, and so not in the environment"
    if not way.pattern.fullmatch(one.item.name):
        return "is not in the environment, because its name is no name of a variable"
    if "\0" in one.text:
        return "is not in the environment, because it holds a NUL byte"
    if one.own and is_refused(one.name):
        return "is not exported under its own name, which would steer the hook itself"
    return f"is not exported as {one.name}, which the hook has for itself" if one.name in base else ""


def _too_large(one: Variable, room: int) -> str:
    if one.size > ONE_LIMIT:
        limit = f"one variable may have {ONE_LIMIT} with its name"
    elif one.size > room:
        limit = f"all together may have {all_limit()}"
    else:
        return ""
    return f"{_TOO_LARGE}: it has {len(os.fsencode(one.text))} bytes, and {limit}"


def _refusal(one: Variable, why: str, way: Way, env: Collection[str]) -> str:
    """In words: the config would have found an empty variable, and what its author can do."""
    instead, twin = way.instead, f"HW_INPUT_{one.item.name}"
    if one.item.erased:
        instead = "give the undo what it needs as an output of the task (hidden_outputs)"
    elif one.own and twin in env:
        instead = f"write ${twin}"
    elif one.item.hidden:
        instead = f"{instead}, or name it in environment_inputs"
    return f"input {one.item.name} {why}, but line {one.read_on} of the config reads it there; {instead}"


def _size(name: str, value: str) -> int:
    return len(os.fsencode(f"{name}={value}")) + 1


def inputs_file(task: Task) -> NewFile:
    """All inputs, hidden ones too, as one JSON object; it is also the hook's standard input."""
    return NewFile(INPUTS_FILE, json.dumps({item.name: item.value for item in task.given}))


def find_program(name: str, place: Place) -> str:
    """The path of a program that the hook needs; HookError, which fails the task, when this machine has it not."""
    found = shutil.which(name, path=place.search_path)
    if found is None:
        raise HookError(f"{name} is not on this machine (looked in {place.search_path}); install it and run again", 127)
    check_program(found, place.search_path)
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
