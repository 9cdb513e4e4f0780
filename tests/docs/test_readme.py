# SPDX-License-Identifier: Apache-2.0
"""The README's commands, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devcloud.cloud import DevCloud
from tests.docs.pages import ROOT, blocks

README = ROOT / "README.rst"
VENV = Path(sys.executable).parent.parent
NEXT = (ROOT / "doc" / "after-the-demo.txt").read_text()


def lines(beginning: str) -> list[str]:
    """The lines of the block of commands that begins so."""
    [found] = [text for _, text in blocks(README) if text.startswith(beginning)]
    return [line.partition(" # ")[0].strip() for line in found.splitlines()]


def run(line: str, **environment: str) -> str:
    done = subprocess.run(
        ["sh", "-ec", line], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_cloud_to_play_with_takes_the_commands_as_they_stand(cloud: DevCloud) -> None:
    assert VENV == ROOT / ".venv", "the commands name the environment that make sets up"
    assert lines(".venv/bin/python -m devcloud") == [".venv/bin/python -m devcloud up --dir /tmp/cloud"]
    export, *commands = lines("export ")
    assert export == "export OS_CLIENT_CONFIG_FILE=/tmp/cloud/clouds.yaml"
    assert len(commands) == 3
    config = {"OS_CLIENT_CONFIG_FILE": str(cloud.directory / "clouds.yaml")}
    create, show, delete = (run(line, **config) for line in commands)
    assert "CREATE_COMPLETE" in create
    assert "output_value" in show
    assert "DELETE" in delete
    left = run(".venv/bin/openstack --os-cloud devcloud stack list -f value -c 'Stack Name'", **config)
    assert "x" not in left.split()


def test_nothing_is_installed_beside_the_environment() -> None:
    text = README.read_text()
    assert re.findall(r"^ *(?:sudo )?pip install", text, re.MULTILINE) == []
    bare = [
        line for _, block in blocks(README) for line in block.splitlines() if re.match(r"(openstack|python3?) ", line)
    ]
    assert bare == []


@pytest.mark.parametrize("program", ["openstack", "python", "heat-workflow-api", "heat-workflow-agent"])
def test_the_environment_of_the_demo_has_what_the_readme_names(program: str) -> None:
    assert os.access(VENV / "bin" / program, os.X_OK)


def test_what_the_demo_says_to_try_next_is_there() -> None:
    assert "doc/after-the-demo.txt" in (ROOT / "Makefile").read_text()
    templates = re.findall(r"templates/\w+\.yaml", NEXT)
    assert len(templates) == 2
    assert all((ROOT / template).exists() for template in templates)
    plan = next(line.strip() for line in NEXT.splitlines() if "heat_workflow.plan" in line)
    assert "two_servers" in plan
    assert run(plan)
    assert lines(".venv/bin/python -m devcloud")[0] in NEXT
