# SPDX-License-Identifier: Apache-2.0
"""What the owner of a stack reads in its events: attempts, outputs that are left out, undos that fail, skipped work."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from devcloud.settings import DevCloudError
from devcloud.stacks import Stack, Stacks
from tests.heat_engine.servers import servers_of

KINDS = ("task", "group", "flow")
TOO_LARGE = "head -c 300000 /dev/zero | tr '\\0' x > $heat_outputs_path.big"


@pytest.fixture(scope="module")
def server(cloud: Any) -> Any:
    """A server that outlives the stacks of this module."""
    with servers_of(cloud, ("a",)) as servers:
        yield servers["a"]


def said(stack: Stack, resource: str) -> list[str]:
    """What events say of a resource beside Heat's own words, oldest first."""
    own = ("state changed", "Stack ")
    reasons = [event.resource_status_reason for event in stack.events() if event.resource_name == resource]
    return [reason for reason in reasons if not reason.startswith(own)]


def each_kind(server: str, what: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """A task, a group and a workflow that do the same on one server."""

    def made(kind: str, **own: Any) -> dict[str, Any]:
        return {"type": f"OS::HeatWorkflow::{kind}", "properties": own}

    asked = {"definition": what, **properties}
    resources = {
        "task": made("Task", server=server, **asked),
        "group": made("TaskGroup", servers={"a": server}, **asked),
        "flow": made("Workflow", tasks={"one": {"server": server, **asked}}),
    }
    return {"heat_template_version": "2021-04-16", "resources": resources}


def test_an_output_that_is_left_out_is_told_once(hot: Any, stacks: Stacks, server: str) -> None:
    what = hot.script(TOO_LARGE, "big")
    stack = stacks.create("big", each_kind(server, what))
    names = {"task": "task", "group": "group/a", "flow": "one"}
    before = {
        kind: [f"task {names[kind]} succeeded; output big left out: too large, 300000 bytes of 262144"]
        for kind in KINDS
    }
    assert {kind: said(stack, kind) for kind in KINDS} == before
    changed = each_kind(server, what, priority=1)
    stack.update(changed)
    assert {kind: said(stack, kind) for kind in KINDS} == before, "the update ran nothing"


def test_each_failed_attempt_is_told_before_the_next(
    hot: Any, stacks: Stacks, server: str, tmp_path: pathlib.Path
) -> None:
    """The third try succeeds; how often it was tried is counted in a file of each."""
    text = (
        f"n={tmp_path}/$HW_TASK_ID\necho x >> $n\nleft=$((3 - $(wc -l < $n)))\n"
        "test $left = 0 || { echo $left to go >&2; exit 7; }"
    )
    stack = stacks.create("retried", each_kind(server, hot.script(text), max_attempts=3, retry_delay=0.2))
    for kind, name in (("task", "task"), ("group", "group/a"), ("flow", "one")):
        assert "; ".join(said(stack, kind)).split("; ") == [
            f"task {name}: attempt 1 of 3 failed with exit code 7: 2 to go, next try in 0.2 s",
            f"task {name}: attempt 2 of 3 failed with exit code 7: 1 to go, next try in 0.4 s",
        ], "in one event or two"


def test_an_undo_that_fails_is_told_whoever_began_it(hot: Any, stacks: Stacks, server: str) -> None:
    cannot = hot.script("echo cannot take back >&2; exit 4")
    source = each_kind(server, hot.script("true"), undo=cannot)
    bad = {"definition": hot.script("echo boom >&2; exit 7"), "server": server, "requires": ["one"]}
    flow = source["resources"]["flow"]["properties"]
    of_task, of_group = (
        f"undo of {name} on server {server} failed with exit code 4: cannot take back" for name in ("one", "group/a")
    )
    failing = {**flow, "tasks": {**flow["tasks"], "bad": bad}, "on_failure": "undo"}
    own = {
        **source,
        "resources": {**source["resources"], "own": {"type": "OS::HeatWorkflow::Workflow", "properties": failing}},
    }
    stack = stacks.create("cannot", source)
    stack.update(own, wait=False)
    with pytest.raises(DevCloudError, match="boom"):
        stack.wait()
    told = [reason for reason in said(stack, "own") if "undo" in reason]
    assert told == [of_task]
    stack.update({**source, "resources": {"more": {"type": "OS::Heat::None"}}})
    events = {kind: said(stack, kind) for kind in ("task", "group", "flow")}
    assert events["group"] == [of_group]
    assert events["flow"] == [of_task]
    assert len(events["task"]) == 1
    assert "undo of task" in events["task"][0]
    assert events["task"][0].endswith("failed with exit code 4: cannot take back")
