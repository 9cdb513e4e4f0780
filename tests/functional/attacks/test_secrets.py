# SPDX-License-Identifier: Apache-2.0
"""Secrets: values that were named hidden, and tokens, looked for wherever they must not be."""

from __future__ import annotations

import secrets
import time
from typing import Any

import pytest

from tests.functional.attacks.world import OPERATOR_ROUTES, Ids, filled, name_of
from tests.harness.callers import DEFINITION, Operator, SimulatedAgent, new_id
from tests.harness.servers import ApiProcess

HIDING = {**DEFINITION, "outputs": [{"name": "y"}, {"name": "key"}]}


class Scene:
    """Tasks in every stage that carry hidden values, and everything that was ever answered to an operator."""

    def __init__(self, operator: Operator) -> None:
        self.canary_in = f"canary-in-{secrets.token_hex(12)}"
        self.canary_out = f"canary-out-{secrets.token_hex(12)}"
        self.operator = operator
        self.server = new_id()
        self.heard: list[str] = []
        self.agent: SimulatedAgent = operator.agent(server=self.server)
        self.workflow_id = operator.workflow(tasks=[self.fields("inline")])
        self.tasks = [str(self.say("GET", "/tasks")["tasks"][0]["id"])]
        for name in ("failed", "retried", "done"):
            self.tasks.append(self.add(self.fields(name, max_attempts=2 if name == "retried" else 1)))
        fan = self.fields("fan", servers={"one": self.server, "two": "nobody"})
        del fan["server"]
        self.tasks += [str(task["id"]) for task in self.say("POST", "/tasks", json=fan)["tasks"]]
        self.taken: list[dict[str, Any]] = []
        self.run()

    def fields(self, name: str, **more: Any) -> dict[str, Any]:
        values = {"password": self.canary_in, "deep": {"list": [self.canary_in]}, "open": "seen"}
        hidden = {"hidden_inputs": ["password", "deep"], "hidden_outputs": ["key"]}
        undo = {"undo": HIDING}
        return {
            "name": name,
            "definition": HIDING,
            "server": self.server,
            "input_values": values,
            **hidden,
            **undo,
            **more,
        }

    def add(self, fields: dict[str, Any]) -> str:
        return str(self.say("POST", "/tasks", json=fields)["id"])

    def say(self, method: str, path: str, operator: Operator | None = None, **kwargs: Any) -> Any:
        answer = (operator or self.operator).call(method, f"/v1/workflows/{self.workflow_id}{path}", **kwargs)
        self.heard.append(answer.text)
        return answer.json() if answer.content else None

    def run(self) -> None:
        """Every task gets its claim; each one ends in its own way, one stays in the agent's hands."""
        while True:
            answer = self.agent.claim()
            if answer.status_code == 204:
                return
            task = answer.json()["task"]
            self.taken.append(task)
            if task["name"] == "fan/one":
                continue
            good = task["name"] in ("done", "inline") or task["attempt"] == 2
            outputs = {"key": self.canary_out, "y": "plain"}
            assert self.agent.report(task, "succeeded" if good else "failed", outputs=outputs).status_code == 200

    def look_everywhere(self, looker: Operator) -> None:
        """Every GET there is, and refusals that might quote what they refuse."""
        for task_id in self.tasks:
            ids = Ids(self.workflow_id, task_id, self.agent.agent_id)
            for route in OPERATOR_ROUTES:
                if route.method == "GET":
                    self.heard.append(looker.call("GET", filled(route.path, ids)).text)
            fields = self.fields("done")
            bad = [{**fields, "priority": self.canary_in}, {**fields, "requires": ["nobody"]}, {**fields, "x": 1}]
            for body in bad:
                self.say("PUT", f"/tasks/{task_id}", looker, json=body)
            self.say("PUT", f"/tasks/{task_id}", looker, data=f'{{"name": "{self.canary_in}')
            self.say("PATCH", f"/tasks/{task_id}", looker, json={"input_values": {"password": self.canary_in}})
            self.say("PATCH", f"/tasks/{task_id}", looker, json={"priority": 5})
        for path in ("/graph?format=dot", "/events?after=0", "/tasks?limit=1"):
            self.say_text(looker, path)
        for path in ("/v1/agents", f"/v1/agents/{self.agent.agent_id}", "/v1/openapi.json", "/metrics", "/healthz"):
            self.heard.append(looker.call("GET", path).text)

    def say_text(self, looker: Operator, path: str) -> None:
        self.heard.append(looker.call("GET", f"/v1/workflows/{self.workflow_id}{path}").text)

    def leaks(self) -> list[str]:
        return [text[:2000] for text in self.heard if self.canary_in in text or self.canary_out in text]


@pytest.fixture
def scene(operator: Operator) -> Scene:
    return Scene(operator)


def test_s23_hidden_inputs_reach_the_lease_holder_and_nobody_else(scene: Scene, reader: Operator) -> None:
    assert {task["input_values"]["password"] for task in scene.taken} == {scene.canary_in}
    assert {task["input_values"]["deep"]["list"][0] for task in scene.taken} == {scene.canary_in}
    for looker in (scene.operator, reader):
        scene.look_everywhere(looker)
    assert scene.leaks() == []
    shown = scene.say("GET", f"/tasks/{scene.tasks[0]}")
    assert shown["input_values"] == {"password": "******", "deep": "******", "open": "seen"}
    assert shown["outputs"] == {"key": "******", "y": "plain"}


def test_s23_only_a_members_own_wish_reveals_a_hidden_output(scene: Scene, reader: Operator) -> None:
    revealed = scene.operator.call(
        "GET", f"/v1/workflows/{scene.workflow_id}/tasks/{scene.tasks[0]}", params={"reveal": "true"}
    ).json()
    assert revealed["outputs"]["key"] == scene.canary_out
    assert revealed["input_values"]["password"] == "******"
    refused = reader.call("GET", f"/v1/workflows/{scene.workflow_id}/tasks/{scene.tasks[0]}", params={"reveal": "true"})
    assert (refused.status_code, scene.canary_out in refused.text) == (403, False)


def test_s23_a_hidden_output_flows_into_another_task_unseen(scene: Scene) -> None:
    late = {"token": {"get_output": ["done", "key"]}}
    task_id = scene.add(
        {
            "name": "next",
            "definition": DEFINITION,
            "server": scene.server,
            "input_values": late,
            "hidden_inputs": ["token"],
        }
    )
    assert scene.agent.take()["input_values"] == {"token": scene.canary_out}
    scene.say("GET", f"/tasks/{task_id}")
    scene.look_everywhere(scene.operator)
    assert scene.leaks() == []


def test_s23_rerun_and_undo_show_nothing_hidden(scene: Scene) -> None:
    for path in (f"/tasks/{scene.tasks[1]}/rerun", f"/tasks/{scene.tasks[0]}/undo", "/rerun", "/undo"):
        scene.say("POST", path)
    scene.run()
    scene.look_everywhere(scene.operator)
    assert scene.leaks() == []


def test_s24_no_secret_is_in_the_log_nor_in_the_store_in_clear(api: ApiProcess, scene: Scene) -> None:
    scene.look_everywhere(scene.operator)
    agent = scene.agent
    agent.call("POST", "/claim", json={"claim_id": scene.canary_in})
    agent.enroll()
    used = [scene.canary_in, scene.canary_out, agent.secret, agent.join_token.split(".")[2]]
    _settled(api)
    places = [api.log, *api.directory.glob("store.sqlite*")]
    assert len(places) >= 3, "the log, the file and its write-ahead log"
    found = [(place.name, secret) for place in places for secret in used if secret.encode() in place.read_bytes()]
    assert found == []
    assert b"DEBUG" in api.log.read_bytes(), "the log is at its most talkative"


def test_s24_the_process_shows_no_secret(api: ApiProcess, scene: Scene) -> None:
    for part in ("cmdline", "environ"):
        with open(f"/proc/{api.pid}/{part}", "rb") as shown:
            text = shown.read()
        assert scene.canary_in.encode() not in text
        assert scene.agent.secret.encode() not in text


def _settled(api: ApiProcess) -> None:
    """Wait until the log is written out: it stops growing."""
    size = -1
    while size != (size := api.log.stat().st_size):
        time.sleep(0.1)


def test_the_scene_really_looks_at_every_way_to_read() -> None:
    assert len([name_of(route) for route in OPERATOR_ROUTES if route.method == "GET"]) >= 10
