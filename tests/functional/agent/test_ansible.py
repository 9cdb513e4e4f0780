# SPDX-License-Identifier: Apache-2.0
"""The real agent with the real ansible-core."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    playbook = "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - fail: {msg: on purpose}\n"
    task = finished(add(playbook, group="ansible"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 2)
    assert "on purpose" in task["deploy_stdout"] + task["deploy_stderr"]
    assert "ansible-playbook ended with exit status 2" in task["status_reason"]


def test_without_ansible_the_task_fails_and_says_so(boot: Boot, add: Add, finished: Finished, tmp_path: Path) -> None:
    boot(hook_path=str(tmp_path))
    task = finished(add(PLAYBOOK, group="ansible"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 127)
    assert "ansible-playbook is not on this machine" in task["status_reason"]
