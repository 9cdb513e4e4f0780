# SPDX-License-Identifier: Apache-2.0
"""Attacks on the agent by what a task holds: S35 to S39, S41, S45, S46. The API is taken for compromised."""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.agent.conftest import Add
from tests.harness.callers import Operator
from tests.harness.machine import Machine
from tests.harness.small_api import Api, wire_task

Task = dict[str, Any]
Finished = Callable[..., Task]

AGENT = str(uuid.uuid4())
JOIN = f"hwj1.{AGENT.replace('-', '')}.{'j' * 43}"
STEERING = (
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "BASH_ENV", "ENV", "IFS", "PYTHONPATH", "PYTHONSTARTUP", "PERL5LIB"),
    *("RUBYOPT", "NODE_OPTIONS", "GCONV_PATH", "GIT_SSH", "SSL_CERT_FILE", "https_proxy", "HTTPS_PROXY", "HOME"),
    *("SHELL", "HW_TASK_ID", "A=B", "A\nB", "BASH_FUNC_x%%", "BASH_FUNC_ls()", "1x", "a-b", "", "ünïcode"),
)


@pytest.fixture
def hooks_dir(tmp_path: Path) -> Path:
    """A directory of heat-config hooks, with a program beside it that must never be executed."""
    directory = tmp_path / "hooks" / "in"
    directory.mkdir(parents=True)
    for path in (directory / "good", tmp_path / "hooks" / "evil"):
        path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{path.name}\necho '{{}}'\n")
        path.chmod(0o755)
    return directory


@pytest.fixture
def guest(tmp_path: Path, fake: Api, hooks_dir: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "guest", fake.url, AGENT, JOIN, hooks_dirs=str(hooks_dir))
    made.start()
    yield made
    made.end()


def test_s36_a_group_that_is_no_hooks_exact_name_executes_nothing(guest: Machine, fake: Api, tmp_path: Path) -> None:
    groups = [
        "../../bin/sh",
        "../evil",
        "/bin/sh",
        "script;id",
        "script\n",
        " script",
        "SCRIPT",
        "\u017fcript",
        "script\u00b2",
    ]
    groups += [
        "script\x00",
        "..",
        ".",
        "",
        "good/",
        "./good",
        "good/../good",
        "\uff53\uff43\uff52\uff49\uff50\uff54",
        "script\u0663",
        "a" * 300,
    ]
    for group in groups:
        report = fake.report_of(fake.add(wire_task(f"touch {tmp_path}/ran-script\n", group=group)))
        assert report["status"] == "failed", group
        assert "unknown hook" in report["reason"], (group, report["reason"])
    assert list(tmp_path.glob("ran-*")) == []


def test_s35_the_agent_itself_refuses_outputs_named_as_paths(guest: Machine, fake: Api, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary-secret")
    names = ["../../x", "/etc/passwd", f"/../../../../../../../..{tmp_path}/secret", "a/b", "a\x00b", "x" * 300]
    report = fake.report_of(fake.add(wire_task("true\n", outputs=[{"name": name} for name in names])))
    assert report["outputs"] == {}
    assert "canary-secret" not in json.dumps(report)


def test_s37_names_that_would_steer_the_hook_are_not_exported_and_stand_in_the_inputs_file(
    guest: Machine, fake: Api
) -> None:
    values = {name: f"canary-{number}" for number, name in enumerate(STEERING)}
    script = "#!/bin/sh\nenv -0 | tr '\\0\\n' '\\n?' >&2\ncat $HW_INPUTS_FILE\n"
    report = fake.report_of(fake.add(wire_task(script, input_values=values)))
    assert report["status"] == "succeeded", report
    assert json.loads(report["deploy_stdout"]) == values
    lines = [line.partition("=") for line in report["deploy_stderr"].splitlines()]
    exported = {name for name, _, value in lines if value.startswith("canary-")}
    assert {name for name in exported if not name.startswith("HW_INPUT_")} == set()
    assert exported <= {f"HW_INPUT_{name}" for name in STEERING}


NASTY = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "'; touch CANARY; '",
    '"; touch CANARY; "',
    "a\nb\r\nc\n",
    "\\$HOME ${PATH} $$ !! %s %n",
    "{{ 7 * 7 }} {% include '/etc/passwd' %} ${7*7} <%= 7*7 %>",
    "!!python/object/apply:os.system ['touch CANARY']",
    "ü\"\\'€\U0001f600",
    "-n -e --help",
]


@pytest.mark.parametrize("value", NASTY)
def test_s38_a_value_reaches_the_hook_word_for_word_and_nothing_in_it_is_executed(
    guest: Machine, fake: Api, tmp_path: Path, value: str
) -> None:
    value = value.replace("CANARY", str(tmp_path / "canary"))
    script = '#!/bin/sh\nprintf %s "$v" > ${heat_outputs_path}.env\n'
    script += 'python3 -c \'import json,os; print(json.load(open(os.environ["HW_INPUTS_FILE"]))["v"], end="")\' '
    script += "> ${heat_outputs_path}.file\n"
    outputs = [{"name": "env"}, {"name": "file"}]
    report = fake.report_of(fake.add(wire_task(script, input_values={"v": value}, outputs=outputs)))
    assert report["outputs"] == {"env": value, "file": value}, report
    assert not (tmp_path / "canary").exists()


def test_s39_an_output_that_looks_like_code_is_a_value_for_the_next_task(
    machine: Machine, operator: Operator, finished: Finished, tmp_path: Path
) -> None:
    text = "".join(NASTY).replace("CANARY", str(tmp_path / "canary"))
    (tmp_path / "text").write_text(text)
    first = f"cat {tmp_path}/text > ${{heat_outputs_path}}.y\n"
    second = '#!/bin/sh\nprintf %s "$x" > ${heat_outputs_path}.y\n'
    workflow_id = operator.workflow()

    def add(name: str, config: str, **fields: Any) -> Task:
        definition = {"group": "script", "config": config, "outputs": [{"name": "y"}]}
        return operator.task(workflow_id, name, definition=definition, server="s1", **fields)

    add("a", first)
    task = add("b", second, input_values={"x": {"get_output": ["a", "y"]}})
    assert finished(task)["outputs"] == {"y": text}
    assert not (tmp_path / "canary").exists()


def test_s41_nothing_in_a_task_becomes_a_line_of_its_own_in_the_agents_log(guest: Machine, fake: Api) -> None:
    forged = "x\n2026-01-01 00:00:00,000 ERROR forged\r\n"
    for fields in ({"group": forged}, {"name": forged}, {"action": forged}, {"run_as": forged}):
        fake.report_of(fake.add(wire_task("true\n", **fields)))
    flood = f"printf '{'x' * 100}\\n' ; head -c 1000000 /dev/zero | tr '\\0' y; exit 3\n"
    report = fake.report_of(fake.add(wire_task(flood)))
    assert len(report["reason"]) <= 1024
    fake.answers["report"] = lambda _call: (422, {"errors": [{"code": "c", "detail": forged * 1000}]})
    fake.add(wire_task("true\n"))
    fake.add(wire_task("true\n"))
    while fake.names().count("report") < 8:
        threading.Event().wait(0.05)
    lines = guest.log.read_text().splitlines()
    assert [line for line in lines if line.startswith("2026-01-01")] == []
    assert max(len(line) for line in lines) < 2000


def test_s45_no_secret_is_ever_seen_in_argv_or_environment(tmp_path: Path, fake: Api) -> None:
    """Every process is looked at every 5 ms, from before the agent starts until its last report."""
    guest = Machine(tmp_path / "guest", fake.url, AGENT, JOIN)
    found: set[str] = set()
    looked: list[int] = []
    over = threading.Event()
    secrets = {b"canary-hidden": "hidden input", JOIN.encode(): "join token", b"hwa1.": "credential"}

    def look() -> None:
        while not over.wait(0.005):
            looked.append(1)
            for process in os.listdir("/proc"):
                if process.isdigit() and int(process) != os.getpid():
                    found.update(_seen(process, secrets))

    watcher = threading.Thread(target=look)
    watcher.start()
    guest.start()
    try:
        for _ in range(10):
            fields = {"input_values": {"password": "canary-hidden"}, "hidden_inputs": ["password"]}
            fake.report_of(fake.add(wire_task("cat $HW_INPUTS_FILE > /dev/null; sleep 0.05\n", **fields)))
    finally:
        over.set()
        watcher.join()
        guest.end()
    assert found == set()
    assert len(looked) > 20


def _seen(process: str, secrets: dict[bytes, str]) -> Iterator[str]:
    for name in ("cmdline", "environ"):
        try:
            data = Path(f"/proc/{process}/{name}").read_bytes()
        except OSError:
            continue
        yield from (f"{what} in {name} of {data[:60]!r}" for secret, what in secrets.items() if secret in data)


def test_s46_a_setuid_program_gives_a_hook_of_another_user_nothing(
    open_machine: Machine, add: Add, finished: Finished
) -> None:
    program = open_machine.state.parent / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    script = f"{program} -u; {program}; ls /proc/self/fd | wc -l; cat /proc/self/status | grep -E 'CapEff|CapPrm'\n"
    task = finished(add(script, run_as="nobody"))
    assert task["state"] == "succeeded", task["status_reason"]
    lines = task["deploy_stdout"].splitlines()
    assert lines[0] == "65534"
    assert "euid" not in lines[1]
    assert int(lines[2]) <= 4
    assert [line.split()[1] for line in lines[3:]] == ["0000000000000000"] * 2
