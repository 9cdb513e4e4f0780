# SPDX-License-Identifier: Apache-2.0
"""The reason in Heat is the agent's one line, and no input is an empty variable: tasks, groups, workflows and undos."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from devcloud.stacks import Stacks
from tests.harness.hot import Hot

PLAYBOOK = """- hosts: localhost
  gather_facts: false
  tasks:
    - name: look for it
      command: /bin/ls /does/not/exist
"""
MACHINE = {"get_resource": "machine"}
SECRET = {"input_values": {"pw": "canary", "other": "plain"}, "hidden_inputs": ["pw"]}


def _failing(hot: Hot, ran: pathlib.Path) -> dict[str, tuple[Any, str]]:
    """By name, a resource that fails and what its reason has to say."""
    reads = hot.script(f"touch {ran}; echo $pw $other", pw="String")
    inline = {"reads": {"definition": reads, "server": MACHINE, **SECRET}}
    exact = {
        "stdout": (
            hot.script("echo fine; echo 'ERROR: database is locked'; exit 1"),
            "exit code 1: ERROR: database is locked",
        ),
        "trace": (hot.script("set -x; echo 'no space'; exit 5"), "exit code 5: no space"),
        "mute": (hot.script("exit 6"), "exit code 6, and nothing was written"),
        "killed": (hot.script("echo begun; kill -9 $$"), "exit code 137 (killed by SIGKILL): begun"),
    }
    told: dict[str, tuple[Any, str]] = {
        name: (hot.task(what), rf"task {name} on server machine \S+ failed with {re.escape(words)}")
        for name, (what, words) in exact.items()
    }
    crlf = {"group": "script", "config": "#!/bin/bash\r\necho hi\r\n"}
    lost = {"group": "script", "config": "#!/usr/bin/env ruby9\nputs 1\n"}
    metadata = {"group": "os-apply-config", "config": {"a": "b"}}
    large = hot.task(hot.script(f"touch {ran}; echo ${{#big}}", big="String"), input_values={"big": "x" * 200_000})
    own = {"definition": reads, "servers": {"one": MACHINE}, **SECRET}
    hidden = r"input pw is hidden, and so not in the environment, but line 2 .* name it in environment_inputs"
    return {
        **told,
        "crlf": (hot.task(crlf), r"failed with exit code 127: .*/bin/bash, ends with a carriage return"),
        "lost": (hot.task(lost), r"failed with exit code 127: .*the interpreter .* not on this machine: ruby9"),
        "slow": (
            hot.task(hot.script("echo waiting for it; sleep 100"), timeout=1),
            r"timed out: it ran longer than its timeout of 1 s; it last said: waiting for it$",
        ),
        "play": (
            hot.task({"group": "ansible", "config": PLAYBOOK}),
            r"failed with exit code 2: task look for it failed on localhost: .*/does/not/exist.*No such file",
        ),
        "metadata": (hot.task(metadata), "unknown hook 'os-apply-config'.*metadata for os-collect-config"),
        "large": (large, r"failed: not started: input big is too large for the environment: it has 200000 bytes"),
        "hidden": (hot.task(reads, **SECRET), f"failed: not started: {hidden}"),
        "group": ({"type": "OS::HeatWorkflow::TaskGroup", "properties": own}, f"one .*failed: not started: {hidden}"),
        "flow": (
            {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": inline}},
            f"task reads on .*failed: not started: {hidden}",
        ),
    }


def test_every_failure_tells_the_line_that_says_why_and_nothing_twice(
    hot: Hot, stacks: Stacks, tmp_path: pathlib.Path
) -> None:
    failing = _failing(hot, tmp_path / "ran")
    template = hot.template(**{name: resource for name, (resource, _words) in failing.items()})
    stack = stacks.create("reasons", template, wait=False)
    stack.wait_until(lambda: all(stack.resource(name).resource_status == "CREATE_FAILED" for name in failing))
    for name, (_resource, words) in failing.items():
        reason = stack.resource(name).resource_status_reason
        assert re.search(words, reason, re.DOTALL), f"{name}: {reason}"
        assert not re.search(r"(exit code \d+|timed out).*\1", reason), f"{name}: {reason}"
        assert "canary" not in reason
    assert not (tmp_path / "ran").exists()


def test_a_hidden_input_is_a_variable_where_its_author_says_so_also_in_the_undo(
    hot: Hot, stacks: Stacks, tmp_path: pathlib.Path
) -> None:
    exported: dict[str, Any] = {**SECRET, "environment_inputs": ["pw", "token"], "hidden_outputs": ["token"]}
    make = hot.script(
        f'echo "$deploy_resource_name $pw" >> {tmp_path}/said; printf t > $heat_outputs_path.token', "token"
    )
    undo = hot.script(f'echo "undo $token" >> {tmp_path}/said')
    servers = {"definition": make, "servers": {"one": MACHINE}, **exported}
    inline = {"made": {"definition": make, "server": MACHINE, **exported}}
    others = {
        "group": {"type": "OS::HeatWorkflow::TaskGroup", "properties": servers},
        "flow": {"type": "OS::HeatWorkflow::Workflow", "properties": {"tasks": inline}},
    }
    stack = stacks.create("exported", hot.template(task=hot.task(make, undo=undo, **exported), **others))
    said = (tmp_path / "said").read_text().splitlines()
    assert sorted(said) == ["flow canary", "one canary", "task canary"]
    stack.update(hot.template(**others))
    assert (tmp_path / "said").read_text().splitlines()[3:] == ["undo t"]
