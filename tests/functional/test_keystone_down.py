# SPDX-License-Identifier: Apache-2.0
"""F46: while keystone is down operators are told to come back, and agents notice nothing."""

from __future__ import annotations

from pathlib import Path

import requests

from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess, free_port


def without_keystone(api: ApiProcess) -> None:
    """The same API asks a Keystone that nobody answers for."""
    text = api.conf.read_text().replace("auth_strategy = noauth", "auth_strategy = keystone")
    nobody = f"http://127.0.0.1:{free_port()}"
    lines = ["[keystone_authtoken]", f"www_authenticate_uri = {nobody}", f"auth_url = {nobody}", "auth_type = password"]
    lines += ["username = u", "password = p", "project_name = service", "user_domain_id = default"]
    lines += ["project_domain_id = default", "http_request_max_retries = 0", "http_connect_timeout = 1"]
    api.conf.write_text("\n".join([text, *lines, ""]))


def test_f46_operators_are_told_to_come_back_and_agents_work_on(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite")
    api.start()
    operator = Operator(api.url)
    agent, workflow_id = operator.agent(server="s"), operator.workflow()
    for name in ("a", "b"):
        operator.task(workflow_id, name, server="s")
    joins = operator.register(server="t")
    api.stop()
    without_keystone(api)
    api.start()
    try:
        for method, path in (("GET", "/v1/workflows"), ("POST", f"/v1/workflows/{workflow_id}/cancel")):
            refused = requests.request(method, api.url + path, headers={"X-Auth-Token": "a" * 32}, timeout=60)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.json()["errors"][0]["code"] == "heat-workflow.unavailable"
        assert agent.hello().status_code == 200
        taken = agent.take()
        assert agent.heartbeat(taken).status_code == 200
        assert agent.report(taken).status_code == 200
        assert agent.report(agent.take()).status_code == 200
        newcomer = type(agent)(api.url, *joins)
        assert newcomer.enroll().status_code == 201
        assert requests.get(f"{api.url}/healthz", timeout=10).status_code == 200
    finally:
        api.stop()
