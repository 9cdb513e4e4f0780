# SPDX-License-Identifier: Apache-2.0
"""Programs made for heat-config, run by the real agent: unchanged, and without what heat-config loses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.functional.agent.conftest import Add, Boot
from tests.harness.machine import Machine

Task = dict[str, Any]
Finished = Callable[..., Task]

ECHO = """#!/usr/bin/env python3
import json, sys
config = json.load(sys.stdin)
values = {item["name"]: item["value"] for item in config["inputs"]}
print("seen", config["group"], file=sys.stderr)
json.dump({"got": values, "config": config["config"], "deploy_stdout": "told", "deploy_status_code": "0"}, sys.stdout)
"""


@pytest.fixture
def hooks(tmp_path: Path, boot: Boot) -> Callable[..., Path]:
    """Installs programs by name and boots an agent that looks for them; the directory they are in."""
    directory = tmp_path / "hooks"
    directory.mkdir()

    def install(**programs: str) -> Path:
        for name, text in programs.items():
            path = directory / name.replace("__", "-")
            path.write_text(text)
            path.chmod(0o755)
        boot(hooks_dirs=str(directory))
        return directory

    return install


def test_a_program_of_the_groups_name_gets_the_config_and_gives_outputs(
    hooks: Callable[..., Path], add: Add, finished: Finished
) -> None:
    hooks(echo=ECHO)
    inputs = [
        {"name": "number", "type": "Number"},
        {"name": "flag", "type": "Boolean"},
        {"name": "map", "type": "Json"},
        {"name": "list", "type": "CommaDelimitedList"},
        {"name": "nothing", "type": "Json"},
    ]
    values = {"number": 2.5, "flag": False, "map": {"a": [1]}, "list": ["x", "y"], "nothing": None, "text": 7}
    outputs = [{"name": "got"}, {"name": "config"}]
    task = finished(add({"k": "v"}, group="echo", inputs=inputs, outputs=outputs, input_values=values))
    assert (task["state"], task["deploy_status_code"]) == ("succeeded", 0)
    assert (task["deploy_stdout"], task["deploy_stderr"]) == ("told", "seen echo\n")
    assert task["outputs"]["config"] == {"k": "v"}
    got = task["outputs"]["got"]
    assert {name: got[name] for name in values} == {**values, "text": "7"}
    assert (got["deploy_server_id"], got["deploy_action"]) == ("s1", "CREATE")


STATES = """file_|-x_|-/etc/x_|-managed:
  comment: Source file salt://x not found
  name: /etc/x
  result: false
  start_time: 10:00
pkg_|-y_|-y_|-installed:
  comment: fine
  result: true
"""
SALT = json.dumps({"deploy_status_code": 1, "deploy_stderr": STATES})
REFUSED = json.dumps({"deploy_status_code": 1, "deploy_stderr": 'tool: no such image\nSee "tool --help".\n'})


@pytest.mark.parametrize(
    ("program", "state", "code", "words"),
    [
        ("echo '{\"y\": 1}'; exit 3", "failed", 3, "exit code 3"),
        ("exit 0", "failed", 1, "no answer: the tool it runs may be missing"),
        ("exit 4", "failed", 4, "exit code 4, and nothing was written (the hook gave no answer)"),
        ("echo '{}'", "failed", 1, "an empty answer where outputs were due: y"),
        ('echo \'{"y": 1, "deploy_status_code": 5}\'', "failed", 5, "exit code 5"),
        (f"printf %s '{REFUSED}'; echo log >&2", "failed", 1, "exit code 1: tool: no such image"),
        (f"printf %s '{SALT}'", "failed", 1, "exit code 1: file.managed x: Source file salt://x not found"),
        ('echo \'{"y": 1, "deploy_status_code": "no"}\'', "failed", None, "'no', which is no number"),
        ("echo '{\"y\": 1}'", "succeeded", 0, ""),
        ("echo plain text", "succeeded", 0, ""),
        ("echo plain text; exit 2", "failed", 2, "exit code 2: plain text"),
        ("nosuchtool; exit $?", "failed", 127, "exit code 127 (a command was not found): "),
    ],
)
def test_what_an_answer_means(
    hooks: Callable[..., Path], add: Add, finished: Finished, program: str, state: str, code: int | None, words: str
) -> None:
    hooks(tool=f"#!/bin/sh\ncat >/dev/null\n{program}\n")
    task = finished(add("x", group="tool", outputs=[{"name": "y"}]))
    assert (task["state"], task["deploy_status_code"]) == (state, code)
    assert words in (task["status_reason"] or "")


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [
        ('{"y": 1, "deploy_status_code": Infinity}', "failed", None),
        ('{"y": 1, "deploy_status_code": 1e400}', "failed", None),
        (f'{{"y": 1, "deploy_status_code": 1{"0" * 400}}}', "failed", None),
        (f'{{"y": 1{"0" * 5000}, "deploy_status_code": "3"}}', "failed", 3),
        ('{"y": [NaN, -Infinity], "deploy_status_code": false}', "succeeded", 0),
    ],
    ids=["infinity", "1e400", "huge", "huge output", "no numbers in an output"],
)
def test_s79_a_hook_that_answers_with_impossible_numbers_is_reported_as_what_it_is(
    hooks: Callable[..., Path], add: Add, finished: Finished, answer: str, state: str, code: int | None
) -> None:
    hooks(tool=f"#!/bin/sh\ncat >/dev/null\necho '{answer}'; echo said >&2\n")
    task = finished(add("x", group="tool", outputs=[{"name": "y", "type": "Json"}]))
    assert (task["state"], task["deploy_status_code"]) == (state, code), task["status_reason"]
    assert task["deploy_stderr"] == "said\n", "what the hook said is kept"
    assert "hook lost" not in task["status_reason"]
    assert "refused" not in task["status_reason"]


def test_s79_a_script_whose_typed_output_no_store_takes_fails_in_words(
    machine: Machine, add: Add, finished: Finished
) -> None:
    script = "echo said; echo '{\"a\": Infinity}' > ${heat_outputs_path}.y\n"
    task = finished(add(script, outputs=[{"name": "y", "type": "Json"}]))
    assert (task["state"], task["deploy_stdout"]) == ("failed", "said\n")
    assert "output y is declared as Json" in task["status_reason"]


def test_a_large_answer_is_read_whole(hooks: Callable[..., Path], add: Add, finished: Finished) -> None:
    hooks(big='#!/usr/bin/env python3\nprint(\'{"y": "kept", "deploy_stdout": "\' + \'x\' * 5000000 + \'"}\')\n')
    task = finished(add("x", group="big", outputs=[{"name": "y"}]))
    assert (task["state"], task["outputs"]) == ("succeeded", {"y": "kept"})
    assert "bytes left out" in task["deploy_stdout"]


def test_a_component_runs_its_part_for_the_action(hooks: Callable[..., Path], add: Add, finished: Finished) -> None:
    hooks(echo=ECHO)
    config = {
        "configs": [
            {"actions": ["CREATE"], "tool": "script", "config": "echo created\n"},
            {"actions": ["UPDATE"], "tool": "echo", "config": "updated"},
        ]
    }
    created, updated, deleted = (
        finished(add(config, group="component", action=action, outputs=[{"name": "config"}]))
        for action in ("CREATE", "UPDATE", "DELETE")
    )
    assert created["deploy_stdout"] == "created\n"
    assert updated["outputs"] == {"config": "updated"}
    assert (deleted["state"], deleted["deploy_stdout"]) == ("succeeded", "")


def test_the_companion_runs_first_and_both_see_the_live_configs(
    hooks: Callable[..., Path], add: Add, finished: Finished, tmp_path: Path
) -> None:
    companion = f"#!/bin/sh\necho said\ncat $HEAT_SHELL_CONFIG > {tmp_path}/live\n"
    live = "import json, os\nlive = json.load(open(os.environ['HEAT_SHELL_CONFIG']))\n"
    directory = hooks(live=f"#!/usr/bin/env python3\n{live}print(json.dumps({{'ids': [c['id'] for c in live]}}))\n")
    path = directory / "50-heat-config-live"
    path.write_text(companion)
    path.chmod(0o755)
    outputs = [{"name": "ids"}]
    task = finished(
        add("x", group="live", outputs=outputs, input_values={"password": "canary"}, hidden_inputs=["password"])
    )
    other = finished(add("y", group="live", outputs=outputs))
    assert task["outputs"] == {"ids": [task["id"]]}
    assert task["deploy_stderr"] == "said\n"
    assert sorted(other["outputs"]["ids"]) == sorted([task["id"], other["id"]])
    shown = json.loads((tmp_path / "live").read_text())
    assert {entry["config"] for entry in shown} == {"x", "y"}
    assert "canary" not in (tmp_path / "live").read_text()


def test_a_companion_that_fails_is_a_failed_task(hooks: Callable[..., Path], add: Add, finished: Finished) -> None:
    directory = hooks(live="#!/bin/sh\necho '{}'\n")
    path = directory / "50-heat-config-live"
    path.write_text("#!/bin/sh\nexit 9\n")
    path.chmod(0o755)
    task = finished(add("x", group="live"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 9)
    assert "50-heat-config-live ended with exit status 9, the hook was not run" in task["deploy_stderr"]


def test_a_program_that_others_can_write_is_not_run(
    hooks: Callable[..., Path], add: Add, finished: Finished, tmp_path: Path
) -> None:
    directory = hooks(loose=f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (directory / "loose").chmod(0o777)
    task = finished(add("x", group="loose"))
    assert task["state"] == "failed"
    assert "can be written by others" in task["status_reason"]
    assert not (tmp_path / "ran").exists()
