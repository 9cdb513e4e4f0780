# SPDX-License-Identifier: Apache-2.0
"""Hook of group ``puppet``: the config is a manifest, applied to this machine without a server.

Inputs are facts (``FACTER_<name>``; switch off with ``enable_facter: false``) and, with ``enable_hiera: true``, Hiera
data; ``use_facter`` and ``use_hiera`` are other names of these options. ``$heat_outputs_path`` is a fact too: an output
is the content of ``${heat_outputs_path}.<output name>``. Further options: ``modulepath``, ``tags``, ``enable_debug``,
``enable_verbose``. A hidden input is no fact, for facts are environment variables, unless the task wants it there; it
is in the Hiera data. A manifest that reads an input as a fact which cannot be one (hidden, too large) is not applied.

Hiera data are put where the machine's own hiera.yaml looks for them if it names ``deploy_config_name``, as those made
for heat-config do: /etc/puppet/hieradata/heat_config_<task name>.json. Else a hiera.yaml for this run alone is used.

Exit statuses 0 (nothing to do) and 2 (something changed) are success and are told as status code 0. A second run
changes only what is not as it should be yet.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from guest_agent.errors import HookError
from guest_agent.hooks.contract import Command, Exit, NewFile, Place, Verdict
from guest_agent.hooks.environment import Way, base_environment, export, find_program, inputs_file
from guest_agent.hooks.naming import find_fact
from guest_agent.hooks.telling import find_line, said_reason
from guest_agent.task import Task

PROGRAM = "puppet"
HIERA_CONFIGS = ("/etc/puppet/hiera.yaml", "/etc/puppetlabs/puppet/hiera.yaml")
HIERA_DATA_DIR = "/etc/puppet/hieradata"

_MANIFEST = "manifest.pp"
_HIERA_CONFIG = "hiera.yaml"
_HIERA_DATA = "hiera.json"
_CHANGED = 2
_FACT = "FACTER_"
FACTS = Way((_FACT,), re.compile(r"\w+", re.ASCII), "look it up in Hiera (option enable_hiera)")


class PuppetHook:
    """Runs ``puppet apply``."""

    name = "puppet"

    def prepare(self, task: Task, place: Place) -> Command:
        """The manifest as a file, the inputs as facts and Hiera data."""
        if not isinstance(task.config, str) or not task.config:
            raise HookError(f"a config of group puppet must be a manifest, this one is {type(task.config).__name__}")
        program = find_program(PROGRAM, place)
        env = {**base_environment(task, place), "FACTER_heat_outputs_path": place.outputs_path}
        files = [NewFile(_MANIFEST, task.config), inputs_file(task)]
        arguments = ["--color=false", "--detailed-exitcodes", "--logdest=console", *_options(task.options)]
        hiera = _switch(task.options, "hiera", default=False)
        if hiera:
            env["FACTER_deploy_config_name"] = _config_name(task)
        notes: tuple[str, ...] = ()
        if _switch(task.options, "facter", default=True):
            manifest = task.config
            env, notes = export(task, env, lambda name: find_fact(manifest, name[len(_FACT) :]), FACTS)
        if hiera:
            files += _hiera_files(task, place)
            if len(files) > 3:
                arguments.append(f"--hiera_config={place.file(_HIERA_CONFIG)}")
        return Command(
            hook=self.name,
            argv=(program, "apply", *arguments, place.file(_MANIFEST)),
            env=env,
            files=tuple(files),
            cwd=place.path,
            notes=notes,
        )

    def verdict(self, ended: Exit) -> Verdict:
        """Success is exit status 0 or 2."""
        if ended.code in (0, _CHANGED):
            return Verdict(True, 0, ended.stdout, ended.stderr, ended.outputs)
        line = _error(ended.stderr) or _error(ended.stdout) or find_line(ended.stderr, ended.stdout)
        reason = said_reason(ended.code, line)
        return Verdict(False, ended.code, ended.stdout, ended.stderr, ended.outputs, reason)


def _error(text: str) -> str:
    """The first error of a resource, which names it, else the first of Puppet's own; and how many resources failed.

    What Facter could not find out about the machine is no reason.
    """
    errors = [
        line for line in text.split("\n") if line.startswith("Error: ") and not line.startswith("Error: Facter: ")
    ]
    resources = [line for line in errors if line.startswith("Error: /")]
    if len(resources) > 1:
        return f"{resources[0].strip()} (resources that failed besides: {len(resources) - 1})"
    return next(iter([*resources, *errors]), "").strip()


def _hiera_files(task: Task, place: Place) -> list[NewFile]:
    """The data file by itself where the machine's Hiera finds it, else with a hiera.yaml that does."""
    data = json.dumps({item.name: item.value for item in task.given})
    if any(_mentions_heat(path) for path in HIERA_CONFIGS):
        return [NewFile(f"heat_config_{_config_name(task)}.json", data, directory=HIERA_DATA_DIR)]
    level = {"name": "inputs", "path": place.file(_HIERA_DATA), "data_hash": "json_data"}
    return [NewFile(_HIERA_DATA, data), NewFile(_HIERA_CONFIG, json.dumps({"version": 5, "hierarchy": [level]}))]


def _mentions_heat(path: str) -> bool:
    try:
        return "deploy_config_name" in Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _config_name(task: Task) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", task.name)


def _switch(options: dict[str, Any], name: str, *, default: bool) -> bool:
    value = options.get(f"enable_{name}", options.get(f"use_{name}", default))
    return value.lower() in ("true", "yes", "1") if isinstance(value, str) else bool(value)


def _options(options: dict[str, Any]) -> list[str]:
    """Each in one argument with its name, so that no value is taken for an option."""
    found = [f"--{name}={options[name]}" for name in ("modulepath", "tags") if options.get(name)]
    return found + [f"--{name}" for name in ("debug", "verbose") if _switch(options, name, default=False)]
