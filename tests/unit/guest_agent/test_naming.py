# SPDX-License-Identifier: Apache-2.0
"""Whether a text reads a variable: what is refused when the variable would be empty, and what is not."""

from __future__ import annotations

import time

import pytest

from guest_agent.hooks.naming import find_fact, find_read


@pytest.mark.parametrize(
    "text",
    [
        "echo $pw",
        'echo "${pw}"',
        "echo ${#pw}",
        "echo ${pw:-none}",
        "echo ${!pw}",
        ': "${pw:=none}"; echo $pw',
        "echo \"ALTER USER root IDENTIFIED BY '$pw'\"",
        "echo $(( pw + 1 ))",
        "[[ -v pw ]] && echo there",
        "printenv pw",
        "env | grep '^pw='",
        'eval "echo \\$pw"',
        'su web -c "echo \\$pw"',
        "const { user, pw } = process.env;",
        "export pw\nmysql",
        "cat <<EOF\n# $pw\nEOF",
        "if [ -z $pw ]; then pw=$(pwgen); fi",
        'pw="$pw"',
        "pw=${pw:-none}; echo $pw",
        "pw=$(echo $pw | tr a b)",
        "echo $pw; pw=1",
        "python3 -c 'import os; print(os.environ[\"pw\"])'",
        'os.environ.get("pw", "")',
        "os.getenv('pw')",
        "my $x = $ENV{pw};",
        "ENV['pw']",
        "ENV.fetch('pw')",
        "process.env.pw",
        'process.env["pw"]',
        "awk 'BEGIN { print ENVIRON[\"pw\"] }'",
        'for name in ("pw", "other"): print(os.environ[name])',
    ],
)
def test_a_text_that_reads_the_variable_is_found(text: str) -> None:
    assert find_read(f"#!/bin/sh\n\n{text}", "pw", "sh") is not None


@pytest.mark.parametrize(
    "text",
    [
        "echo $pwd ${pw2} $my_pw pw",
        "jq -r .pw $HW_INPUTS_FILE",
        'python3 -c \'import json, os; print(json.load(open(os.environ["HW_INPUTS_FILE"]))["pw"])\'',
        'json.load(sys.stdin)["pw"]',
        "pw=$(jq -r .pw $HW_INPUTS_FILE)\necho $pw",
        "pw=$(jq -r .pw $HW_INPUTS_FILE); echo $pw",
        "export pw=$(cat /etc/pw)\necho $pw",
        "local pw\npw=1\necho $pw",
        "read -r pw < /etc/pw\necho $pw",
        "while read -r user pw; do echo $pw; done < list",
        "for pw in a b; do echo $pw; done",
        'eval "$(jq -r to_sh $HW_INPUTS_FILE)"\necho $pw',
        "# $pw comes from the file\npw=1\necho $pw",
        'ssh host "echo \\$pw"',
        "env pw=1 tool",
    ],
)
def test_a_text_that_does_not_read_it_or_sets_it_first_is_left_alone(text: str) -> None:
    assert find_read(f"#!/bin/sh\n{text}", "pw", "sh") is None


def test_the_line_is_told() -> None:
    assert find_read("#!/bin/sh\n# $pw\necho\necho $pw\n", "pw", "sh") == 4


@pytest.mark.parametrize(
    "word", ["class ", "read ", "local ", "printf -v x ", "((", "$(", "|", "export x ", "a=$(", "env "]
)
def test_a_text_that_goes_on_and_on_is_read_in_little_time(word: str) -> None:
    began = time.process_time()
    text = word * (1_000_000 // len(word))
    find_read(text, "a", "sh")
    find_fact(text, "a")
    assert time.process_time() - began < 20


@pytest.mark.parametrize(("interpreter", "found"), [("perl", None), ("php8.2", None), ("python3", 1), ("bash", 1)])
def test_a_dollar_is_the_programs_own_where_the_language_says_so(interpreter: str, found: int | None) -> None:
    assert find_read("print $pw", "pw", interpreter) == found


def test_a_name_that_is_no_variable_name_is_told_from_a_variable_and_a_dash() -> None:
    assert find_read("echo $my-pw", "my-pw", "sh") == 1
    assert find_read("echo $my-pw", "my-pw", "sh", {"my"}) is None
    assert find_read("my=1\necho $my-pw", "my-pw", "sh") is None
    assert find_read('os.environ.get("my-pw")', "my-pw", "python3", {"my"}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "notice($pw)",
        'notice("${pw}")',
        "notice($::pw)",
        "notice($facts['pw'])",
        "notice(fact('pw'))",
        "file { '/x': content => $pw }\n$pw = 1",
    ],
)
def test_a_manifest_that_reads_the_fact_is_found(text: str) -> None:
    assert find_fact(text, "pw") is not None


@pytest.mark.parametrize(
    "text",
    [
        "notice($pwd)",
        "notice(lookup('pw'))",
        "$pw = lookup('pw')\nnotice($pw)",
        "class app(String $user, String $pw = 'x') { notice($pw) }",
        "$all.each |String $name, $pw| { notice($pw) }",
        "notice('\\$pw')",
        "# $pw\nnotice(1)",
    ],
)
def test_a_manifest_that_does_not_read_it_or_sets_it_is_left_alone(text: str) -> None:
    assert find_fact(text, "pw") is None
