# SPDX-License-Identifier: Apache-2.0
"""The real agent with the real ansible-core."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guest_agent.hooks.contract import PATH
from tests.functional.agent.conftest import Add, Boot
from tests.harness.machine import Machine

Task = dict[str, Any]
Finished = Callable[..., Task]

PLAYBOOK = """---
- hosts: localhost
  gather_facts: false
  tasks:
    - name: told
      copy:
        content: "{{ who }} {{ count + 1 }} {{ words.first }} {{ password }}"
        dest: "{{ heat_outputs_path }}.said"
      tags: [say]
    - name: left out
      fail:
        msg: must not run
      tags: [never_said]
"""


def _with_ansible(boot: Boot) -> Machine:
    return boot(hook_path=f"{Path(sys.executable).parent}:{PATH}")


def test_a_playbook_runs_on_this_machine_with_typed_inputs_and_tags(boot: Boot, add: Add, finished: Finished) -> None:
    _with_ansible(boot)
    task = finished(
        add(
            PLAYBOOK,
            group="ansible",
            options={"tags": "say"},
            inputs=[{"name": "count", "type": "Number"}, {"name": "words", "type": "Json"}, {"name": "my-odd name"}],
            outputs=[{"name": "said"}],
            input_values={"who": "you", "count": 2, "words": {"first": "w"}, "my-odd name": "x", "password": "p"},
            hidden_inputs=["password"],
        )
    )
    assert task["state"] == "succeeded", task["deploy_stdout"] + task["deploy_stderr"]
    assert task["outputs"] == {"said": "you 3 w p"}
    assert "changed=1" in task["deploy_stdout"]


def test_a_playbook_that_fails_is_a_failed_task(boot: Boot, add: Add, finished: Finished) -> None:
    _with_ansible(boot)
    task = finished(add(_tasks("fail: {msg: on purpose}", "name: refuses"), group="ansible"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 2)
    assert "on purpose" in task["deploy_stdout"] + task["deploy_stderr"]
    assert task["status_reason"] == "exit code 2: task refuses failed on localhost: on purpose"


def _tasks(*lines: str) -> str:
    """A playbook of one task, after one that fails and is ignored and one that fails and is rescued."""
    head = "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - {name: ignored, fail: , ignore_errors: true}\n"
    block = "    - block: [{name: rescued, fail: }]\n      rescue: [{debug: }]\n    - "
    return head + block + "\n      ".join(lines) + "\n"


@pytest.mark.parametrize(
    ("playbook", "inventory", "words"),
    [
        (
            _tasks("command: /bin/ls /does/not/exist", "name: fails"),
            "",
            r"exit code 2: task fails failed on localhost: non-zero return code: .*/does/not/exist.*: No such file.*",
        ),
        (
            _tasks("command: /bin/ls {{ item }}", "loop: [/, /nope1, /nope2]", "name: loops"),
            "",
            r"exit code 2: task loops failed on localhost \(item=/nope1\): .*No such file.*\(items .* besides: 1\)",
        ),
        (
            _tasks("command: echo low on space", "register: said", "failed_when: said.rc == 0", "name: judged"),
            "",
            r"exit code 2: task judged failed on localhost: failed_when: low on space",
        ),
        (
            _tasks("fail: {msg: secret words}", "no_log: true", "name: quiet"),
            "",
            r"exit code 2: task quiet failed on localhost: its result is hidden by no_log",
        ),
        (
            _tasks("assert: {that: 1 == 2}", "name: sure"),
            "",
            r"exit code 2: task sure failed on localhost: Assertion failed: 1 == 2",
        ),
        (
            "- hosts: all\n  gather_facts: false\n  tasks: [{name: two, fail: {msg: 'no {{ inventory_hostname }}'}}]\n",
            "web1 ansible_connection=local\nweb2 ansible_connection=local\n",
            r"exit code 2: task two failed on web1: no web1; task two failed on web2: no web2",
        ),
        (
            "- hosts: all\n  gather_facts: false\n  tasks: [{name: far, ping: }]\n",
            "far ansible_host=127.0.0.1 ansible_port=1\n",
            r"exit code 4: task far: host far is unreachable: .*(?:refused|ssh).*",
        ),
        ("- hosts: localhost\n  roles: [nosuchrole]\n", "", r"exit code 1: .*'nosuchrole' was not found.*yaml:2:\d+\)"),
        ("- hosts: localhost\n  tasks:\n   - a: b\n  - c\n", "", r"exit code 4: .*playbook.yaml:\d+:\d+\)"),
    ],
    ids=["command", "loop", "failed_when", "no_log", "assert", "hosts", "unreachable", "role", "syntax"],
)
def test_the_reason_names_the_task_that_failed_and_its_message(
    boot: Boot, add: Add, finished: Finished, tmp_path: Path, playbook: str, inventory: str, words: str
) -> None:
    _with_ansible(boot)
    (tmp_path / "hosts").write_text(inventory)
    options = {"inventory": str(tmp_path / "hosts")} if inventory else {}
    task = finished(add(playbook, group="ansible", options=options))
    assert task["state"] == "failed"
    assert re.fullmatch(words, task["status_reason"]), task["status_reason"]


def test_without_ansible_the_task_fails_and_says_so(boot: Boot, add: Add, finished: Finished, tmp_path: Path) -> None:
    boot(hook_path=str(tmp_path))
    task = finished(add(PLAYBOOK, group="ansible"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 127)
    assert "ansible-playbook is not on this machine" in task["status_reason"]
