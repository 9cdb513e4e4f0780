# SPDX-License-Identifier: Apache-2.0
"""Agents through the real API: enrolment, isolation, fencing, revocation."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
import requests

from tests.harness.callers import Operator, SimulatedAgent, new_id
from tests.harness.servers import ApiProcess


def test_s13_the_same_key_enrolls_once_and_hears_the_same_again(operator: Operator) -> None:
    agent = SimulatedAgent(operator.url, *operator.register(server="s"))
    assert [agent.enroll().status_code for _ in range(3)] == [201, 200, 200]


def test_s14_a_used_join_token_with_another_key_is_refused_and_locks_the_agent(operator: Operator) -> None:
    agent_id, token = operator.register(server="s")
    owner, thief = (SimulatedAgent(operator.url, agent_id, token) for _ in range(2))
    assert owner.enroll().status_code == 201
    assert thief.enroll().status_code == 401
    assert operator.call("GET", f"/v1/agents/{agent_id}").json()["state"] == "suspect"
    assert owner.claim().status_code == 401


def test_s15_of_many_keys_with_one_token_exactly_one_enrolls(operator: Operator) -> None:
    agent_id, token = operator.register(server="s")
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(SimulatedAgent(operator.url, agent_id, token).enroll().status_code)
        )
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [401] * 19


def test_s16_expired_wrong_and_foreign_join_tokens_get_the_same_401(operator: Operator) -> None:
    agent_id, token = operator.register(server="s", join_ttl=0.05)
    other_id, _ = operator.register(server="other")
    secret = token.split(".")[2]
    time.sleep(0.1)
    tokens = [
        token,
        token[:-1],
        token.swapcase(),
        f"hwj1.{uuid.UUID(other_id).hex}.{secret}",
        f"hwj1.{uuid.uuid4().hex}.{secret}",
        f"hwj1.{uuid.UUID(agent_id).hex}.{'A' * 43}",
        token.replace("hwj1", "hwa1"),
    ]
    answers = [SimulatedAgent(operator.url, agent_id, one).enroll() for one in tokens]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["errors"][0]["detail"] for answer in answers}) == 1


def test_s4_an_agent_never_gets_the_task_of_another_server(operator: Operator) -> None:
    operator.task(operator.workflow(), server="a")
    other = operator.agent(server="b")
    assert other.claim(wait=1).status_code == 204
    assert operator.agent(server="a").take()["server"] == "a"


def test_s5_an_agent_cannot_report_or_extend_another_agents_task(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="a")
    owner, other = operator.agent(server="a"), operator.agent(server="b")
    taken = owner.take()
    assert other.report(taken).status_code == 404
    assert other.heartbeat(taken).status_code == 404
    assert operator.show(task)["state"] == "leased"


def test_s1_a_task_of_another_project_does_not_exist_for_an_agent(api: ApiProcess, operator: Operator) -> None:
    foreign = Operator(api.url, project=uuid.uuid4().hex)
    foreign.task(foreign.workflow(), server="s")
    agent = operator.agent(server="s")
    assert agent.claim(wait=1).status_code == 204


@pytest.mark.parametrize("wrong", [{"attempt": 0}, {"attempt": 2}, {"attempt": 2**62}, {"claim_id": new_id()}])
def test_s6_a_wrong_attempt_or_claim_is_fenced(operator: Operator, wrong: dict[str, object]) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    assert agent.report({**taken, **wrong}).status_code == 409
    assert operator.show(task)["state"] == "leased"


def test_s7_a_second_different_report_changes_nothing(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    assert agent.report(taken, outputs={"y": "1"}).status_code == 200
    assert agent.report(taken, outputs={"y": "1"}).status_code == 200
    assert agent.report(taken, outputs={"y": "2"}).status_code == 409
    assert operator.show(task)["outputs"] == {"y": "1"}


def test_s10_undeclared_outputs_and_forged_fields_are_refused(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    taken = agent.take()
    refused = [
        agent.report(taken, outputs={"z": 1}),
        agent.report(taken, "cancelled"),
        agent.report(taken, state="succeeded"),
        agent.report(taken, project_id="x"),
    ]
    assert [answer.status_code for answer in refused] == [422] * 4
    assert operator.show(task)["outputs"] == {}


def test_s11_an_agent_cannot_grant_itself_a_capability(operator: Operator) -> None:
    agent = operator.agent(server="s")
    assert agent.hello(capabilities=["server=x"]).status_code == 422
    assert agent.claim(capabilities=["server=x"]).status_code == 422


def test_s12_either_token_is_worth_nothing_at_the_other_root(operator: Operator) -> None:
    agent = operator.agent(server="s")
    as_operator = requests.get(operator.url + "/v1/workflows", headers={"X-Auth-Token": ""}, timeout=10)
    bearer = requests.get(
        operator.url + "/v1/workflows", headers={"Authorization": f"Bearer {agent.bearer}"}, timeout=10
    )
    keystone = requests.post(
        operator.url + "/agent/v1/claim", headers={"X-Auth-Token": "u:p"}, json={"claim_id": new_id()}, timeout=10
    )
    join = agent.call("POST", "/claim", token=agent.join_token, json={"claim_id": new_id()})
    assert [a.status_code for a in (as_operator, bearer, keystone, join)] == [401] * 4


def test_s18_g25_a_revoked_agent_is_told_so_even_in_a_waiting_poll(operator: Operator) -> None:
    agent = operator.agent(server="s")
    answers: list[requests.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(agent.claim(wait=30)))
    waiting.start()
    time.sleep(0.3)
    assert operator.call("DELETE", f"/v1/agents/{agent.agent_id}").status_code == 204
    waiting.join(10)
    assert [answer.status_code for answer in answers] == [410]
    assert agent.claim().status_code == 410
    stranger = SimulatedAgent(operator.url, agent.agent_id, agent.join_token)
    assert stranger.claim().status_code == 401


def test_s21_an_agent_id_is_never_used_again(operator: Operator) -> None:
    agent_id, _ = operator.register(server="s")
    operator.call("DELETE", f"/v1/agents/{agent_id}")
    assert operator.call("PUT", f"/v1/agents/{agent_id}", json={"name": "agent"}).status_code == 409


def test_g3_a_claim_repeated_with_its_id_returns_the_same_attempt(operator: Operator) -> None:
    operator.task(operator.workflow(), server="s")
    operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    claim_id = new_id()
    first, again = (agent.claim(claim_id=claim_id).json()["task"] for _ in range(2))
    assert (first["id"], first["attempt"]) == (again["id"], again["attempt"])


def test_g2_a_waiting_poll_is_woken_by_a_new_task(operator: Operator) -> None:
    agent = operator.agent(server="s")
    workflow_id = operator.workflow()
    answers: list[requests.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(agent.claim(wait=30)))
    waiting.start()
    time.sleep(0.3)
    operator.task(workflow_id, server="s")
    waiting.join(5)
    assert [answer.status_code for answer in answers] == [200]


def test_a_lease_that_never_reached_the_agent_goes_back_at_hello(operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    agent = operator.agent(server="s")
    agent.take()
    assert agent.hello(journal=[]).status_code == 200
    again = agent.take()
    assert (again["id"], again["attempt"]) == (task["id"], 2)


def test_a_newer_registration_of_a_server_supersedes_the_older(operator: Operator) -> None:
    older = operator.agent(server="s")
    operator.register(server="s")
    assert older.claim().status_code == 410


def test_r3_other_projects_see_the_same_404_as_for_the_unknown(api: ApiProcess, operator: Operator) -> None:
    task = operator.task(operator.workflow(), server="s")
    foreign = Operator(api.url, project=uuid.uuid4().hex)
    path = f"/v1/workflows/{task['workflow_id']}/tasks/{task['id']}"
    theirs, unknown = foreign.call("GET", path), foreign.call("GET", f"/v1/workflows/{new_id()}/tasks/{new_id()}")
    assert (theirs.status_code, unknown.status_code) == (404, 404)
