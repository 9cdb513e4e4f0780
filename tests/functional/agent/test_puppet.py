# SPDX-License-Identifier: Apache-2.0
"""The real agent with the real puppet."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.functional.agent.conftest import Add, Boot
from tests.harness.machine import Machine

Task = dict[str, Any]
Finished = Callable[..., Task]


def test_a_manifest_that_changes_something_succeeds_with_facts_and_outputs(
    machine: Machine, add: Add, finished: Finished
) -> None:
    manifest = 'file { "${heat_outputs_path}.said": ensure => file, content => "${who} ${count}" }\n'
    values = {"who": "you", "count": 2}
    inputs = [{"name": "count", "type": "Number"}]
    task = finished(add(manifest, group="puppet", inputs=inputs, input_values=values, outputs=[{"name": "said"}]))
    assert task["state"] == "succeeded", task["deploy_stdout"] + task["deploy_stderr"]
    assert task["deploy_status_code"] == 0
    assert task["outputs"] == {"said": "you 2"}


def test_hiera_holds_every_input_with_its_type(machine: Machine, add: Add, finished: Finished) -> None:
    manifest = "file { \"${heat_outputs_path}.said\": content => \"${lookup('m')['a'] + 1} ${lookup('password')}\" }\n"
    task = finished(
        add(
            manifest,
            group="puppet",
            options={"use_hiera": True},
            inputs=[{"name": "m", "type": "Json"}],
            input_values={"m": {"a": 1}, "password": "p"},
            hidden_inputs=["password"],
            outputs=[{"name": "said"}],
        )
    )
    assert task["state"] == "succeeded", task["deploy_stdout"] + task["deploy_stderr"]
    assert task["outputs"] == {"said": "2 p"}


def test_a_manifest_that_fails_is_a_failed_task(machine: Machine, add: Add, finished: Finished) -> None:
    task = finished(add('exec { "/bin/false": }\n', group="puppet"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 4)
    assert task["status_reason"].startswith("exit code 4: Error: /Stage[main]/Main/Exec[/bin/false]/returns: ")
    task = finished(add('fail("on purpose")\n', group="puppet"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 1)
    assert re.match(r"exit code 1: Error: Evaluation Error: .* on purpose .*line: 1", task["status_reason"])


@pytest.mark.parametrize("config", ["notice($password)\n", "notice(\"${facts['big']}\")\n"])
def test_a_fact_that_cannot_be_one_is_refused_before_it_is_read_as_nothing(
    machine: Machine, add: Add, finished: Finished, config: str
) -> None:
    values = {"password": "p", "big": "x" * 131_072}
    task = finished(add(config, group="puppet", input_values=values, hidden_inputs=["password"]))
    assert (task["state"], task["deploy_stdout"]) == ("failed", "")
    name = "password is hidden" if "password" in config else "big is too large for the environment"
    assert f"not started: input {name}" in task["status_reason"]
    assert "look it up in Hiera" in task["status_reason"]


def test_a_hidden_input_is_a_fact_where_the_task_says_so_and_a_large_one_is_hiera_data(
    machine: Machine, add: Add, finished: Finished
) -> None:
    manifest = 'file { "${heat_outputs_path}.said": content => "${password} ${lookup(big).length}" }\n'
    task = finished(
        add(
            manifest,
            group="puppet",
            options={"enable_hiera": True},
            input_values={"password": "p", "big": "x" * 131_072},
            hidden_inputs=["password"],
            environment_inputs=["password"],
            outputs=[{"name": "said"}],
        )
    )
    assert task["outputs"] == {"said": "p 131072"}, task["deploy_stdout"] + task["deploy_stderr"]


def test_without_puppet_the_task_fails_and_says_so(boot: Boot, add: Add, finished: Finished, tmp_path: Path) -> None:
    boot(hook_path=str(tmp_path))
    task = finished(add("notice(1)\n", group="puppet"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 127)
    assert "puppet is not on this machine" in task["status_reason"]
