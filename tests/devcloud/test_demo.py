# SPDX-License-Identifier: Apache-2.0
"""`python -m devcloud demo`: shows each step of each task, then the outcome, and exits accordingly."""

import re
import subprocess
import sys
from pathlib import Path

SERVER_AND_TASK = """
heat_template_version: wallaby
parameters:
  word: {type: string, default: nothing}
resources:
  server:
    type: OS::HeatWorkflow::DeployedServer
    properties: {name: box}
  config:
    type: OS::Heat::SoftwareConfig
    properties:
      group: script
      inputs: [{name: word}]
      outputs: [{name: said}]
      config: {get_file: say.sh}
  say:
    type: OS::HeatWorkflow::Task
    properties:
      config: {get_resource: config}
      server: {get_resource: server}
      input_values: {word: {get_param: word}}
outputs:
  said: {value: {get_attr: [say, said]}}
"""
SAYS = '#!/bin/sh\nprintf "%s" "$word" > "$heat_outputs_path.said"\n'
FAILS = "#!/bin/sh\necho first >&2\necho no room left >&2\nexit 3\n"


def run_demo(
    directory: Path, script: str, *arguments: str, template_text: str = SERVER_AND_TASK
) -> subprocess.CompletedProcess[str]:
    template = directory / "template.yaml"
    template.write_text(template_text)
    (directory / "say.sh").write_text(script)
    command = [sys.executable, "-m", "devcloud", "demo", str(template), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_stack_that_succeeds_ends_with_its_outputs(tmp_path: Path) -> None:
    environment = tmp_path / "environment.yaml"
    environment.write_text("parameters: {word: hello}\n")
    done = run_demo(tmp_path, SAYS, "-e", str(environment))
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r" s  task  (say .*)", done.stdout)
    assert steps[:2] == ["say ready", "say started on box"]
    assert re.fullmatch(r"say succeeded after \d+\.\d\d s", steps[2])
    assert re.search(r" s  heat  server CREATE_COMPLETE", done.stdout)
    assert done.stdout.endswith(" is CREATE_COMPLETE\n  said: hello\n")


def test_a_stack_that_fails_names_the_task_its_server_and_its_last_words(tmp_path: Path) -> None:
    done = run_demo(tmp_path, FAILS)
    assert done.returncode == 1
    assert " is CREATE_FAILED\n" in done.stdout
    assert re.search(r"task say failed on box: exit code 3: no room left\n", done.stdout)


def test_s40_what_a_script_wrote_moves_no_cursor_in_the_terminal(tmp_path: Path) -> None:
    hostile = r"\033[2J\033]0;owned\007"
    failed = run_demo(tmp_path, f"#!/bin/sh\nprintf '{hostile}\\n' >&2\nexit 3\n")
    assert failed.returncode == 1
    assert r"\x1b[2J\x1b]0;owned\x07" in failed.stdout
    good = run_demo(tmp_path, f"#!/bin/sh\nprintf 'one\\n{hostile}' > \"$heat_outputs_path.said\"\n")
    assert good.stdout.endswith("said: one\n\\x1b[2J\\x1b]0;owned\\x07\n")
    assert "\x1b" not in failed.stdout + good.stdout


def test_a_template_that_heat_refuses_is_said_to_be_so(tmp_path: Path) -> None:
    done = run_demo(tmp_path, SAYS, template_text=SERVER_AND_TASK.replace("OS::HeatWorkflow::Task", "No::Such::Type"))
    assert done.returncode == 1
    assert "Heat did not take the template" in done.stdout
    assert "No::Such::Type" in done.stdout
    assert done.stderr == ""
