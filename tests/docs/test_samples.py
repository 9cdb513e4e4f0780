# SPDX-License-Identifier: Apache-2.0
"""The files in etc/: the samples say what the code says, the units start what there is."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from oslo_config import cfg

from guest_agent import config as agent_config
from heat_workflow import conf as options
from heat_workflow.api.app import routes
from heat_workflow.api.policies import list_rules
from heat_workflow.cmd import manage

ROOT = Path(__file__).resolve().parents[2]
ETC = ROOT / "etc"
UNITS = sorted((ETC / "systemd").glob("*.service"))


def generated(generator: str, *arguments: str) -> str:
    """What one of oslo's generators, a function by its full name, writes to standard output."""
    module, _, function = generator.rpartition(".")
    code = f"from {module} import {function}; {function}()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout


@pytest.mark.parametrize("name", ["heat-workflow", "heat"])
def test_a_sample_of_the_options_is_what_the_generator_writes(name: str, tmp_path: Path) -> None:
    into = tmp_path / "sample"
    generated("oslo_config.generator.main", "--config-file", f"etc/generator/{name}.conf", "--output-file", str(into))
    kept = (ETC / f"{name}.conf.sample").read_text()
    assert into.read_text() == kept, "the options changed: run tools/generate"


def test_the_sample_of_the_policy_is_what_the_generator_writes() -> None:
    written = generated("oslo_policy.generator.generate_sample", "--namespace", "heat_workflow")
    assert written == (ETC / "policy.yaml.sample").read_text(), "the rules changed: run tools/generate"


def test_each_rule_names_the_operations_that_it_opens() -> None:
    told = {rule.name: {f"{o['method']} {o['path']}" for o in rule.operations} for rule in list_rules()}
    table: dict[str, set[str]] = {}
    for route in routes(["operator"]):
        table.setdefault(route.caller, set()).add(f"{route.method} {route.path}")
    further = {
        "secrets:read": "workflows:get",
        "agents:get_all_projects": "agents:get",
        "workflows:get_all_projects": "workflows:get",
    }
    for rule, operations in told.items():
        if rule in further:
            assert operations < table[further[rule]]
        else:
            assert operations == table[rule], rule


def test_the_agents_sample_shows_every_option_and_its_default(tmp_path: Path) -> None:
    text = (ETC / "agent.conf.sample").read_text()
    shown = dict(re.findall(r"^(?:# )?(\w+) =(.*)$", text, re.MULTILINE))
    assert set(shown) == agent_config._OPTIONS
    bare = agent_config.load_config(str(ETC / "agent.conf.sample"))
    whole = tmp_path / "agent.conf"
    whole.write_text(re.sub(r"^# (\w+ = .*)$", r"\1", text, flags=re.MULTILINE))
    assert agent_config.load_config(str(whole)) == bare
    assert (bare.agent_id, bare.state_dir) == (shown["agent_id"].strip(), agent_config.DEFAULT_STATE_DIR)


@pytest.mark.parametrize("half", ["operator", "guest"])
def test_the_two_listeners_serve_one_half_each(half: str) -> None:
    conf = cfg.ConfigOpts()
    options.register(conf)
    files = [ETC / "heat-workflow.conf.sample", ETC / f"{half}.conf.sample"]
    conf([f"--config-file={file}" for file in files], project="heat-workflow")
    assert conf.api.serve == [half]
    assert conf.api.bind_port == {"operator": 8790, "guest": 8791}[half]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_there_is(unit: Path) -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    command = shlex.split(parser["Service"]["ExecStart"])
    name = Path(command[0]).name
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    assert f"{name} = " in setup["entry_points"]["console_scripts"]
    for file in [part for part in command if part.startswith("/etc/heat-workflow/")]:
        assert (ETC / f"{Path(file).name}.sample").exists(), file
    if name == "heat-workflow-manage":
        manage._parser().parse_args(command[1:])


def test_the_agents_unit_is_the_one_that_user_data_installs() -> None:
    installed = (ROOT / "heat_workflow" / "resources" / "agent.service").read_text()
    kept = (ETC / "systemd" / "heat-workflow-agent.service").read_text()
    assert kept == installed.replace("@START@", "/usr/bin/heat-workflow-agent run"), "run tools/generate"
