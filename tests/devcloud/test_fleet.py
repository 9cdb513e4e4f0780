# SPDX-License-Identifier: Apache-2.0
"""Fleet: many agents on one machine with one command, each for its own server; none is left in the end."""

import json
import signal
import subprocess
import sys
from typing import Any

from devcloud.cloud import DevCloud
from devcloud.registry import GUEST_TASKS
from tests.harness.waiters import is_readable

COUNT = 4


def _call(cloud: DevCloud, method: str, path: str, body: Any = None) -> Any:
    return cloud.session().request(path, method, json=body, endpoint_filter=GUEST_TASKS).json()


def test_agents_started_by_one_command_run_each_its_own_task_and_are_revoked_in_the_end(cloud: DevCloud) -> None:
    command = [sys.executable, "-m", "devcloud", "agents", str(COUNT), "--dir", str(cloud.directory), "--name", "many"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert is_readable(process.stdout.fileno(), 60), "nothing was printed in 60 s"
            word, _, rest = process.stdout.readline().partition(" ")
            servers: dict[str, str] = json.loads(rest)
            assert word == "ready"
            assert sorted(servers) == [f"many-{number}" for number in range(COUNT)]
            tasks = [
                {"name": server, "server": server, "definition": {"group": "script", "config": "echo $HW_SERVER\n"}}
                for server in servers
            ]
            made = _call(cloud, "POST", "/v1/workflows", {"name": "many", "sealed": True, "tasks": tasks})
            shown = _call(cloud, "GET", f"/v1/workflows/{made['id']}?wait=40")
            assert shown["state"] == "succeeded", shown
            done = _call(cloud, "GET", f"/v1/workflows/{made['id']}/tasks")["tasks"]
            assert {task["server"]: task["agent_id"] for task in done} == servers
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    for agent_id in servers.values():
        answer = cloud.session().get(f"/v1/agents/{agent_id}", endpoint_filter=GUEST_TASKS, raise_exc=False)
        assert answer.status_code == 404
