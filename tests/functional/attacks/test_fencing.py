# SPDX-License-Identifier: Apache-2.0
"""Fencing: what an agent held once, or another holds, is out of its reach."""

from __future__ import annotations

import uuid

from tests.functional.attacks.state import Steady, audits
from tests.functional.attacks.world import World
from tests.harness.callers import Operator, SimulatedAgent, new_id
from tests.harness.servers import ApiProcess


def test_s1_a_task_of_another_project_is_unknown_to_every_verb_of_an_agent(
    world: World, stranger: Operator, steady: Steady
) -> None:
    agent = stranger.agent(server="s")
    held = world.taken
    with steady():
        assert agent.heartbeat(held).status_code == 404
        assert agent.report(held).status_code == 404
        chunk = {"n": 0, "stream": "stdout", "text": "x"}
        lease = {"attempt": held["attempt"], "claim_id": held["claim_id"]}
        assert agent.call("POST", f"/tasks/{held['id']}/log", json={**lease, "chunks": [chunk]}).status_code == 404
        listed = {**lease, "task_id": held["id"], "status": "succeeded"}
        answer = agent.claim(reports=[listed])
        assert [report["status"] for report in answer.json()["reports"]] == [404]
        assert agent.claim(claim_id=held["claim_id"]).status_code == 204


def test_s1_s57_a_server_of_another_project_is_a_word_that_matches_nothing(
    api: ApiProcess, world: World, stranger: Operator
) -> None:
    server = str(world.taken["server"])
    waiting = world.owner.task(world.workflow_id, "waits", server=server)
    usurper = stranger.agent(server=server, capabilities=[f"server={server}", world.ids.agent_id])
    assert usurper.claim(wait=0.2).status_code == 204
    assert world.owner.show(waiting)["state"] == "ready"
    assert world.agent.heartbeat(world.taken).status_code == 200, "the owner's agent of that server is not superseded"


def test_s4_no_capability_string_reaches_another_server(operator: Operator, stranger: Operator) -> None:
    task = operator.task(operator.workflow(), server="victim")
    claims = ["server=*", "server=%", "server=victim ", "SERVER=victim", "server=victim%", "*", "", "server="]
    for capability in filter(None, claims):
        agent = operator.agent(capabilities=[capability])
        assert agent.claim().status_code == 204, capability
    assert operator.show(task)["state"] == "ready"


def test_s5_s7_reaching_for_anothers_task_leaves_one_line_in_the_audit(api: ApiProcess, world: World) -> None:
    other = world.owner.agent(server="other")
    before = len(audits(api, other.agent_id))
    assert other.report(world.taken).status_code == 404
    assert audits(api, other.agent_id)[before:] == ["refused"]
    assert world.agent.report(world.taken).status_code == 200
    before = len(audits(api, world.ids.agent_id))
    assert world.agent.report(world.taken, "failed").status_code == 409
    assert audits(api, world.ids.agent_id)[before:] == ["refused"]


def test_s8_the_report_of_an_earlier_task_does_not_fit_a_later_one(world: World, steady: Steady) -> None:
    created = world.taken
    world.agent.report(created, outputs={"y": "created"})
    server = str(created["server"])
    update = world.owner.task(world.workflow_id, "t", server=server, action="UPDATE")
    taken = world.agent.take()
    assert taken["id"] == update["id"]
    with steady():
        assert world.agent.report({**created, "id": taken["id"]}, outputs={"y": "created"}).status_code == 409
        assert world.agent.report({**taken, "claim_id": created["claim_id"]}).status_code == 409
        assert world.agent.report({**taken, "id": created["id"]}).status_code == 409
    assert world.agent.report(taken, outputs={"y": "updated"}).status_code == 200


def test_s9_the_inputs_of_a_finished_task_are_gone_for_its_agent(operator: Operator, steady: Steady) -> None:
    operator.task(operator.workflow(), server="s", input_values={"x": "once"})
    agent = operator.agent(server="s")
    taken = agent.take()
    agent.report(taken)
    with steady():
        answers = [
            agent.claim(claim_id=taken["claim_id"]),
            agent.heartbeat(taken),
            agent.call("GET", f"/tasks/{taken['id']}"),
            agent.call("GET", f"/tasks/{taken['id']}/report"),
        ]
    assert [answer.status_code for answer in answers] == [409, 409, 404, 405]
    assert not [answer for answer in answers if "once" in answer.text]


def test_s11_a_refused_field_is_written_into_the_audit_once(api: ApiProcess, world: World, steady: Steady) -> None:
    before = len(audits(api, world.ids.agent_id))
    with steady():
        assert world.agent.hello(capabilities=["server=x"]).status_code == 422
        assert audits(api, world.ids.agent_id)[before:] == ["refused"]
    agent = SimulatedAgent(world.owner.url, *world.owner.register())
    body = {"credential_sha256": "0" * 64, "nonce": "n", "capabilities": ["server=x"]}
    assert agent.call("POST", "/enroll", agent.join_token, json=body).status_code == 422


def test_s21_the_id_of_a_revoked_agent_stays_taken_for_everybody(operator: Operator, stranger: Operator) -> None:
    agent = operator.agent(server="s")
    operator.call("DELETE", f"/v1/agents/{agent.agent_id}")
    assert operator.call("PUT", f"/v1/agents/{agent.agent_id}", json={"name": "agent"}).status_code == 409
    assert stranger.call("PUT", f"/v1/agents/{agent.agent_id}", json={"name": "agent"}).status_code == 404
    assert agent.claim().status_code == 410


def test_s6_an_attempt_that_never_was_is_fenced(world: World, steady: Steady) -> None:
    wrong = [0, 2, 2**31, 2**63 - 1]
    with steady():
        assert [world.agent.report({**world.taken, "attempt": n}).status_code for n in wrong] == [409] * 4
        assert world.agent.report({**world.taken, "attempt": -1}).status_code == 422
        assert world.agent.report({**world.taken, "attempt": 2**63}).status_code == 400
        assert world.agent.report({**world.taken, "claim_id": str(uuid.uuid4())}).status_code == 409
        assert world.agent.claim(claim_id=new_id()).status_code == 204
