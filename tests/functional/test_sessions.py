# SPDX-License-Identifier: Apache-2.0
"""Sessions through the real API: rotation, old generations, two machines with one identity, rejoining."""

from __future__ import annotations

import hashlib
import secrets

from tests.harness.callers import Operator, SimulatedAgent, new_id


def rotate(agent: SimulatedAgent) -> str:
    """Announce and use a new secret; the old one."""
    old, fresh = agent.secret, secrets.token_urlsafe(32)
    body = {"next_sha256": hashlib.sha256(fresh.encode()).hexdigest()}
    assert agent.call("PUT", "/credential", json=body).status_code == 200
    assert agent.call("PUT", "/credential", json=body).status_code == 200
    agent.secret = fresh
    assert agent.claim().status_code == 204
    return old


def events(operator: Operator, agent: SimulatedAgent) -> list[str]:
    found = operator.call("GET", f"/v1/agents/{agent.agent_id}/events").json()["events"]
    return [event["type"] for event in found]


def test_a_rotated_credential_works_and_the_one_before_for_a_minute(operator: Operator) -> None:
    agent = operator.agent(server="s")
    old = rotate(agent)
    current, agent.secret = agent.secret, old
    assert agent.claim().status_code in (204, 429)
    agent.secret = current
    assert agent.hello().status_code == 200


def test_s19_an_old_generation_locks_the_identity(operator: Operator) -> None:
    agent = operator.agent(server="s")
    oldest = rotate(agent)
    rotate(agent)
    current, agent.secret = agent.secret, oldest
    assert agent.hello().status_code == 401
    agent.secret = current
    assert agent.hello().status_code == 401
    assert operator.call("GET", f"/v1/agents/{agent.agent_id}").json()["state"] == "suspect"
    assert "old-credential" in events(operator, agent)


def test_s20_g17_a_second_process_with_the_same_identity_is_refused(operator: Operator) -> None:
    owner = operator.agent(server="s")
    clone = SimulatedAgent(owner.url, owner.agent_id, owner.join_token)
    clone.secret = owner.secret
    answer = clone.hello()
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["code"] == "heat-workflow.identity-in-use"
    assert clone.claim(nonce=clone.nonce).status_code == 409
    assert events(operator, owner).count("duplicate-agent") == 2


def test_a_restarted_agent_that_knows_the_last_nonce_is_let_in_at_once(operator: Operator) -> None:
    agent = operator.agent(server="s")
    before, agent.nonce = agent.nonce, "restarted"
    assert agent.hello(previous_nonce=before).status_code == 200


def test_rejoin_clears_suspect_and_takes_a_new_machine(operator: Operator) -> None:
    agent = operator.agent(server="s")
    operator.call("POST", f"/v1/agents/{agent.agent_id}/quarantine")
    assert agent.claim().status_code == 401
    token = operator.call("POST", f"/v1/agents/{agent.agent_id}/rejoin").json()["join_token"]
    fresh = SimulatedAgent(agent.url, agent.agent_id, token)
    assert fresh.enroll().status_code == 201
    assert fresh.hello().status_code == 200
    assert agent.claim().status_code == 401


def test_a_draining_agent_gets_no_new_work(operator: Operator) -> None:
    agent = operator.agent(server="s")
    operator.task(operator.workflow(), server="s")
    operator.call("POST", f"/v1/agents/{agent.agent_id}/drain")
    assert agent.claim().status_code == 204
    operator.call("POST", f"/v1/agents/{agent.agent_id}/undrain")
    assert agent.take()["server"] == "s"


def test_g25_a_remembered_credential_is_proven_anew_at_each_report(operator: Operator) -> None:
    """The API read the report before it asked the store; what the agent may do is decided by the store all the same."""
    agent = operator.agent(server="s")
    workflow_id = operator.workflow()
    for name in ("a", "b", "c"):
        operator.task(workflow_id, name, server="s")
    first = agent.take()
    second = agent.report(first, claim={"claim_id": new_id(), "wait": 0}).json()["task"]
    right, agent.secret = agent.secret, secrets.token_urlsafe(32)
    assert agent.report(second).status_code == 401
    agent.secret = right
    assert operator.call("DELETE", f"/v1/agents/{agent.agent_id}").status_code == 204
    assert agent.report(second).status_code == 410
    refused = agent.call("PUT", f"/tasks/{second['id']}/report", json={"nonsense": 1})
    assert refused.status_code == 410  # who has nothing to say any more is not told what is wrong with it
    shown = operator.call("GET", f"/v1/workflows/{workflow_id}/tasks/{second['id']}").json()
    assert shown["state"] == "failed"
    assert "revoked" in shown["status_reason"]


def test_s19_an_old_generation_that_reports_locks_the_identity(operator: Operator) -> None:
    agent = operator.agent(server="s")
    operator.task(operator.workflow(), "a", server="s")
    task = agent.take()
    oldest = rotate(agent)
    rotate(agent)
    current, agent.secret = agent.secret, oldest
    assert agent.report(task).status_code == 401
    assert operator.call("GET", f"/v1/agents/{agent.agent_id}").json()["state"] == "suspect"
    agent.secret = current  # this process has seen it proven, and it proves nothing any more
    assert agent.report(task).status_code == 401
    assert operator.show(task)["state"] == "leased"


def test_a_rotated_credential_may_be_used_first_in_a_report(operator: Operator) -> None:
    agent = operator.agent(server="s")
    operator.task(operator.workflow(), "a", server="s")
    task = agent.take()
    fresh = secrets.token_urlsafe(32)
    body = {"next_sha256": hashlib.sha256(fresh.encode()).hexdigest()}
    assert agent.call("PUT", "/credential", json=body).status_code == 200
    agent.secret = fresh
    assert agent.report(task).status_code == 200
    assert "rotated" in events(operator, agent)
