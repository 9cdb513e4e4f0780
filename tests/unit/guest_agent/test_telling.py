# SPDX-License-Identifier: Apache-2.0
"""The line that says why, and what ansible-playbook wrote that no run of it on this machine shows."""

from __future__ import annotations

import json

import pytest

from guest_agent.hooks.ansible_output import find_reason
from guest_agent.hooks.telling import LINE_LIMIT, exit_reason, find_line, find_state

TASK = "\nTASK [app : install] *****\n"


@pytest.mark.parametrize(
    ("stderr", "stdout", "line"),
    [
        ("", "", ""),
        (" \n", "first\nERROR: locked\n\n", "ERROR: locked"),
        ("warned\n", "ERROR: locked\n", "warned"),
        ("+ echo x\n++ exit 1\n", "no space\n", "no space"),
        ("+ exit 1\n", "", "+ exit 1"),
        ("docker: no such image\nSee 'docker run --help'.\n", "", "docker: no such image"),
        ("Exception: no\n\tat app.Main.run(Main.java:3)\n\t... 4 more\n", "", "Exception: no"),
        ("Error: no\n    at go (/x.js:1:2)\n\nNode.js v22.1.0\n", "", "Error: no"),
        ("  0%\r 50%\r100%\n", "", "100%"),
        ("config: 2: tool\r: not found\n", "", "config: 2: tool\r: not found"),
        ("head\n[... 9 bytes left out ...]\n", "", "head"),
    ],
)
def test_the_line_that_says_why_is_found(stderr: str, stdout: str, line: str) -> None:
    assert find_line(stderr, stdout) == line


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "exit code 1: why"),
        (126, "exit code 126 (a program was found but could not be executed): why"),
        (127, "exit code 127 (a command was not found): why"),
        (137, "exit code 137 (killed by SIGKILL): why"),
        (170, "exit code 170 (killed by signal 42): why"),
        (255, "exit code 255: why"),
    ],
)
def test_a_status_that_means_something_is_explained(code: int, reason: str) -> None:
    assert exit_reason(code, "why\n") == reason


def test_a_long_line_leaves_room_for_the_rest_of_the_reason() -> None:
    assert exit_reason(1, "x" * 70_000, hint="hint") == f"exit code 1: {'x' * (LINE_LIMIT - 3)}... (hint)"
    assert exit_reason(1, "", "") == "exit code 1, and nothing was written"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a_|-b_|-c_|-run:\n  comment: 'it''s\n    gone'\n  result: false\n", "a.run b: it's gone"),
        ("a_|-b_|-c_|-run: {comment: gone, name: c, result: false}\n", "a.run b: gone"),
        ('{"a": {"comment": "gone away", "result": false}}', "gone away"),
        ("local:\n----------\n          ID: b\n      Result: False\n     Comment: gone\n----------\n", "b: gone"),
        ("a_|-b_|-c_|-run:\n  comment: |-\n    gone\n  result: false\n", "a.run b: gone"),
        (
            "a_|-b_|-c_|-run:\n  comment: 'One or more requisite failed: x'\n  result: false\n"
            "d_|-e_|-f_|-run:\n  comment: gone\n  result: false\n",
            "d.run e: gone",
        ),
        ("a:\n  comment: fine\n  result: true\n", ""),
        ("no such image\n", ""),
    ],
)
def test_the_comment_of_the_state_that_failed_is_found(text: str, words: str) -> None:
    assert find_state(text) == words


@pytest.mark.parametrize(
    ("stdout", "words"),
    [
        (
            TASK + 'fatal: [web -> db]: FAILED! => {"msg": ["a", "b"]}\n',
            "task app : install failed on web -> db: a; b",
        ),
        (TASK + 'fatal: [web]: FAILED! => {"msg": "cut off here", "stdout": "' + "x" * 99, "cut off here"),
        (
            TASK + "fatal: [web]: FAILED! =>\n    changed: false\n    msg: it''s gone\n\nPLAY RECAP ***\n",
            "task app : install failed on web: it's gone",
        ),
        (
            TASK + 'fatal: [web]: FAILED! => {"msg": "gone"}\n...ignoring\n\nRUNNING HANDLER [restart] ***\n'
            'fatal: [web]: FAILED! => {"msg": "MODULE FAILURE", "module_stderr": "Traceback\\nImportError: apt\\n"}\n',
            "task restart failed on web: MODULE FAILURE: ImportError: apt",
        ),
    ],
)
def test_the_task_that_failed_is_read_from_what_ansible_writes(stdout: str, words: str) -> None:
    assert words in find_reason(stdout, "[WARNING]: Platform linux on host web is using the\ndiscovered interpreter\n")


def test_only_hosts_that_failed_in_the_end_count_and_few_are_shown() -> None:
    said = "".join(f"fatal: [h{n}]: FAILED! => {json.dumps({'msg': f'no {n}'})}\n" for n in range(6))
    recap = "".join(f"h{n} : ok=1 changed=0 unreachable=0    failed={int(n != 0)}    rescued=0\n" for n in range(6))
    assert find_reason(f"{TASK}{said}\nPLAY RECAP ***\n{recap}", "") == (
        "task app : install failed on h1: no 1; task app : install failed on h2: no 2; "
        "task app : install failed on h3: no 3; hosts that failed besides: 2"
    )


def test_an_error_with_the_playbook_itself_is_told_with_its_place_and_without_warnings() -> None:
    old = (
        "[WARNING]: No inventory was parsed\n\nERROR! Syntax Error while loading YAML.\n  mapping values are odd\n"
        "\nThe error appears to be in '/run/1/playbook.yaml': line 3, column 5, but may\nbe elsewhere\n"
    )
    told = "Syntax Error while loading YAML. mapping values are odd (playbook.yaml line 3, column 5)"
    assert find_reason("", old) == told
    assert find_reason("", "broken\n[WARNING]: old\nwrapped\n\n[DEPRECATION WARNING]: x\n") == "broken"
    assert find_reason("said last\n\nPLAY RECAP ***\nweb : ok=1\n", "") == "said last"
