# SPDX-License-Identifier: Apache-2.0
"""The real agent against the real API: run, cancel, time out, be killed, lose the API, be revoked (G4 G8 G10 G25)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.functional.agent.conftest import Add, Boot
from tests.harness.callers import Operator
from tests.harness.machine import Machine, is_alive, wait_for
from tests.harness.servers import ApiProcess

Task = dict[str, Any]
Finished = Callable[..., Task]


def test_a_script_gets_its_inputs_and_its_outputs_come_back(machine: Machine, add: Add, finished: Finished) -> None:
    script = '#!/bin/sh\necho "hello $who $n"; echo no >&2; printf "%s!" "$who" > ${heat_outputs_path}.greeting\n'
    inputs = [{"name": "who", "type": "String"}, {"name": "n", "type": "Number", "default": 3}]
    task = finished(add(script, inputs=inputs, outputs=[{"name": "greeting"}], input_values={"who": "you"}))
    assert task["state"] == "succeeded"
    assert task["outputs"] == {"greeting": "you!"}
    assert (task["deploy_stdout"], task["deploy_stderr"]) == ("hello you 3\n", "no\n")
    assert task["deploy_status_code"] == 0
    assert task["agent_id"] == machine.agent_id


def test_an_exit_status_is_a_failure_that_says_so(machine: Machine, add: Add, finished: Finished) -> None:
    task = finished(add("exit 7\n"))
    assert (task["state"], task["deploy_status_code"]) == ("failed", 7)
    assert "exit code 7" in task["status_reason"]


def test_a_large_input_is_refused_where_the_script_reads_it_as_a_variable_and_whole_in_the_file(
    machine: Machine, add: Add, finished: Finished, tmp_path: Path
) -> None:
    values = {"big": "x" * 200_000}
    refused = finished(add(f"touch {tmp_path}/ran; echo ${{#big}}\n", input_values=values))
    assert (refused["state"], refused["deploy_status_code"]) == ("failed", None)
    assert "input big is too large for the environment: it has 200000 bytes" in refused["status_reason"]
    assert not (tmp_path / "ran").exists()
    reads = "#!/usr/bin/env python3\nimport json, sys\nprint(len(json.load(sys.stdin)['big']))\n"
    task = finished(add(reads, input_values=values))
    assert (task["state"], task["deploy_stdout"]) == ("succeeded", "200000\n")
    assert task["status_reason"] == "inputs too large for the environment, only in $HW_INPUTS_FILE: big"


@pytest.mark.parametrize("page", ["hooks", "migration"])
def test_the_line_that_the_pages_show_gets_at_a_hidden_input(
    machine: Machine, add: Add, finished: Finished, page: str
) -> None:
    text = (Path(__file__).parents[3] / "doc" / "source" / "user" / f"{page}.rst").read_text()
    (line,) = [line.strip() for line in text.splitlines() if line.startswith("    db_password=")]
    hidden = {"input_values": {"db_password": 'it\'s "ours"'}, "hidden_inputs": ["db_password"]}
    task = finished(add(f'#!/bin/sh -e\n{line}\necho "$db_password"\n', **hidden))
    assert (task["state"], task["deploy_stdout"]) == ("succeeded", 'it\'s "ours"\n'), task["status_reason"]


def test_as_many_large_inputs_as_a_script_may_read_do_start(machine: Machine, add: Add, finished: Finished) -> None:
    values = dict.fromkeys("abcdefgh", "x" * 130_000)
    task = finished(add("echo $a$b$c$d$e$f$g$h | wc -c; /bin/true $a\n", input_values=values))
    assert (task["state"], task["deploy_stdout"]) == ("succeeded", "1040001\n"), task["status_reason"]


def test_an_undo_that_reads_what_was_erased_is_refused_and_others_miss_it(
    machine: Machine, add: Add, finished: Finished, operator: Operator
) -> None:
    def undone(config: str) -> Task:
        hidden = {"hidden_inputs": ["pw"], "environment_inputs": ["pw"], "input_values": {"pw": "canary"}}
        task = finished(add('test "$pw" = canary\n', undo={"group": "script", "config": config}, **hidden))
        assert task["state"] == "succeeded", task["status_reason"]
        path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/undo"
        return finished(operator.call("POST", path).json())

    refused = undone("echo $pw\n")
    assert refused["state"] == "failed"
    assert "input pw was hidden, and erased when the task had ended" in refused["status_reason"]
    assert "hidden_outputs" in refused["status_reason"]
    assert undone("cat $HW_INPUTS_FILE\n")["deploy_stdout"] == "{}"


def test_g8_a_cancel_ends_the_hook_and_what_called_setsid_within_seconds(
    machine: Machine, add: Add, finished: Finished, operator: Operator, tmp_path: Path
) -> None:
    child = f"echo $$ > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; exec sleep 100"
    task = add(f"(setsid sh -c '{child}' >/dev/null 2>&1 &)\nsleep 100\n")
    wait_for((tmp_path / "pid").exists)
    asked = time.monotonic()
    operator.call("POST", f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}/cancel")
    assert finished(task)["state"] == "cancelled"
    assert time.monotonic() - asked < 8
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_timeout_ends_the_hook(machine: Machine, add: Add, finished: Finished) -> None:
    task = finished(add("echo begun\nsleep 100\n", timeout=1))
    assert (task["state"], task["deploy_stdout"]) == ("timed_out", "begun\n")
    assert task["status_reason"] == "it ran longer than its timeout of 1 s; it last said: begun"


def test_g10_an_agent_killed_in_mid_hook_goes_on_with_it_and_starts_nothing_again(
    machine: Machine, add: Add, finished: Finished, tmp_path: Path
) -> None:
    task = add(f"echo x >> {tmp_path}/starts; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done\n")
    wait_for((tmp_path / "starts").exists)
    machine.kill()
    machine.start()
    wait_for(lambda: machine.log.read_text().count("session begun") == 2)
    (tmp_path / "go").touch()
    after = finished(task)
    assert (after["state"], after["deploy_stdout"], after["attempt"]) == ("succeeded", "done\n", 1)
    assert (tmp_path / "starts").read_text() == "x\n"


def test_g13_an_api_killed_during_a_hook_hears_the_outcome_when_it_is_back(
    boot: Boot, add: Add, finished: Finished, tmp_path: Path
) -> None:
    api = ApiProcess(tmp_path / "api", f"sqlite:///{tmp_path}/store.sqlite")
    api.start()
    try:
        operator = Operator(api.url)
        boot(by=operator)
        task = add(f"echo x >> {tmp_path}/starts; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done\n", by=operator)
        wait_for((tmp_path / "starts").exists)
        api.kill()
        (tmp_path / "go").touch()
        api.start()
        assert finished(task, operator)["state"] == "succeeded"
        assert (tmp_path / "starts").read_text() == "x\n"
    finally:
        api.stop()


def test_g25_a_revoked_agent_wipes_itself_and_stops(
    machine: Machine, add: Add, finished: Finished, operator: Operator
) -> None:
    finished(add("true\n"))
    assert operator.call("DELETE", f"/v1/agents/{machine.agent_id}").status_code == 204
    assert machine.process is not None
    assert machine.process.wait(30) == 0
    assert machine.spooled() == []
    assert not (machine.state / "credential").exists()
    assert not list((machine.state / "run").iterdir())


def test_g25_a_revoked_agent_ends_the_hook_it_runs(
    machine: Machine, add: Add, operator: Operator, tmp_path: Path
) -> None:
    add(f"echo $$ > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; sleep 100\n")
    wait_for((tmp_path / "pid").exists)
    assert operator.call("DELETE", f"/v1/agents/{machine.agent_id}").status_code == 204
    assert machine.process is not None
    assert machine.process.wait(30) == 0
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_two_agents_on_one_machine_run_each_its_own(boot: Boot, add: Add, finished: Finished) -> None:
    first, second = boot("s1"), boot("s2")
    tasks = [add(f"echo {server}\n", server=server) for server in ("s1", "s2", "s2", "s1")]
    done = [finished(task) for task in tasks]
    assert [task["deploy_stdout"] for task in done] == ["s1\n", "s2\n", "s2\n", "s1\n"]
    agents = [first.agent_id, second.agent_id]
    assert [task["agent_id"] for task in done] == [agents[0], agents[1], agents[1], agents[0]]


def test_a_second_process_on_one_state_directory_does_not_start(machine: Machine) -> None:
    wait_for((machine.state / "credential").exists)
    first = machine.process
    machine.start()
    assert machine.process is not None
    assert machine.process.wait(30) == 1
    assert "in use by another agent process" in machine.log.read_text()
    machine.process = first


def test_f22_a_file_that_grows_beyond_the_limit_of_the_settings_ends_its_writer(
    boot: Boot, add: Add, finished: Finished, tmp_path: Path
) -> None:
    boot(hook_file_size="100000")
    task = finished(add(f"head -c 10000000 /dev/zero > {tmp_path}/big\n"))
    assert task["state"] == "failed"
    assert (tmp_path / "big").stat().st_size == 100000
