# SPDX-License-Identifier: Apache-2.0
"""S71: somebody has a copy of an agent's credential. What he does with it is refused or seen, the owner works on."""

from __future__ import annotations

import collections
import hashlib
import secrets
import threading
import time

import pytest
import requests

from heat_workflow.api import limits
from heat_workflow.taskqueue import auditing
from tests.harness.callers import Operator, SimulatedAgent, new_id


class Elsewhere(requests.adapters.HTTPAdapter):
    """Calls from another address of this machine."""

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, source_address=("127.0.0.2", 0), **kwargs)  # type: ignore[arg-type]


def thief_of(owner: SimulatedAgent) -> SimulatedAgent:
    """With all that was on the owner's disk, at another address."""
    thief = owner.at(owner.url)
    thief.session.mount("http://", Elsewhere())
    return thief


def events(operator: Operator, agent: SimulatedAgent) -> collections.Counter[str]:
    found = operator.call("GET", f"/v1/agents/{agent.agent_id}/events").json()["events"]
    return collections.Counter(event["type"] for event in found)


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"].removeprefix("heat-workflow.")


def announce(agent: SimulatedAgent) -> tuple[int, str]:
    """The status of an attempt to rotate, and the secret announced."""
    fresh = secrets.token_urlsafe(32)
    body = {"next_sha256": hashlib.sha256(fresh.encode()).hexdigest()}
    return agent.call("PUT", "/credential", json=body).status_code, fresh


def rotate(agent: SimulatedAgent) -> bool:
    status, fresh = announce(agent)
    if status == 200:
        agent.secret = fresh
        assert agent.claim(nonce=agent.nonce).status_code in (204, 429)
    return status == 200


@pytest.fixture
def owner(operator: Operator) -> SimulatedAgent:
    """An agent as they are: its claims hold its nonce."""
    agent = operator.agent(server="s")
    assert agent.claim(nonce=agent.nonce).status_code == 204
    return agent


@pytest.mark.parametrize("with_reports", [False, True])
def test_s71_a_thief_who_leaves_the_nonce_out_gets_no_task_and_the_operator_is_told(
    operator: Operator, owner: SimulatedAgent, with_reports: bool
) -> None:
    workflow_id, thief = operator.workflow(), thief_of(owner)
    report = {"task_id": new_id(), "attempt": 1, "claim_id": new_id(), "status": "succeeded"}
    done = 0
    for number in range(5):
        operator.task(workflow_id, f"t{number}", server="s", input_values={"pin": "1234"})
        body = {"claim_id": new_id(), "reports": [report] if with_reports else []}
        assert code(thief.call("POST", "/claim", json=body)) == (409, "identity-in-use")
        answer = owner.claim(nonce=owner.nonce)
        done += owner.report(answer.json()["task"], outputs={"y": "1"}).status_code == 200
    assert done == 5
    assert events(operator, owner)["duplicate-agent"] == 5
    shown = operator.call("GET", f"/v1/agents/{owner.agent_id}").json()
    assert (shown["state"], shown["inventory"]) == ("active", {})


def test_s71_an_agent_that_sends_no_nonce_works_as_before_also_in_place_of_one_that_did(
    operator: Operator, owner: SimulatedAgent
) -> None:
    workflow_id, old = operator.workflow(), operator.agent(server="old")
    for agent, server in ((old, "old"), (owner, "s")):
        before, agent.nonce = agent.nonce, "restarted"
        assert agent.hello(previous_nonce=before).status_code == 200
        operator.task(workflow_id, f"on-{server}", server=server)
        assert agent.report(agent.take(), outputs={"y": "1"}).status_code == 200
        assert agent.claim(nonce=agent.nonce).status_code == 204  # and here comes a newer one again
        assert agent.hello().status_code == 200
        assert code(agent.claim()) == (409, "identity-in-use")
        assert events(operator, agent)["duplicate-agent"] == 1


def test_s71_two_that_take_the_poll_from_each_other_are_told_as_a_duplicate(
    operator: Operator, owner: SimulatedAgent
) -> None:
    over, answers = threading.Event(), collections.Counter[int]()

    def poll(agent: SimulatedAgent) -> None:
        while not over.is_set():
            answers[agent.claim(wait=5, nonce=agent.nonce).status_code] += 1

    threads = [threading.Thread(target=poll, args=(agent,)) for agent in (owner, thief_of(owner))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while not events(operator, owner)["duplicate-agent"] and time.monotonic() < deadline:
        over.wait(0.1)
    over.set()
    operator.call("POST", f"/v1/agents/{owner.agent_id}/quarantine")
    for thread in threads:
        thread.join(30)
    assert 0 < events(operator, owner)["duplicate-agent"] <= auditing.IN_WINDOW
    assert answers[409] > limits.SUPERSEDED.burst


def test_polls_that_an_honest_agent_loses_to_its_network_are_no_duplicate(
    operator: Operator, owner: SimulatedAgent
) -> None:
    """It asks again over a new connection; that the old ones lead nowhere the API hears only by the newer poll."""
    claim_id = new_id()

    def poll() -> None:
        owner.at(owner.url).claim(wait=20, claim_id=claim_id, nonce=owner.nonce)

    lost = [threading.Thread(target=poll) for _ in range(limits.SUPERSEDED.burst)]
    for thread in lost:
        thread.start()
    assert owner.claim(claim_id=claim_id, nonce=owner.nonce).status_code in (204, 409)
    operator.task(operator.workflow(), server="s")
    for thread in lost:
        thread.join(30)
    assert events(operator, owner)["duplicate-agent"] == 0


def test_s71_what_a_thief_uses_up_elsewhere_is_not_the_owners(operator: Operator, owner: SimulatedAgent) -> None:
    thief = thief_of(owner)
    refused = collections.Counter(announce(thief)[0] for _ in range(limits.ROTATIONS.burst + 5))
    assert refused[429] >= 4
    refused = collections.Counter(thief.hello().status_code for _ in range(limits.SESSIONS.burst * 3))
    assert refused[429] > 0
    refused = collections.Counter(thief.claim().status_code for _ in range(limits.REFUSALS.burst * 2))
    assert refused[429] > 0
    assert owner.hello().status_code == 200
    assert rotate(owner)
    assert owner.claim(nonce=owner.nonce).status_code == 204


def test_s71_a_rotation_that_is_starved_or_taken_over_is_an_event(operator: Operator, owner: SimulatedAgent) -> None:
    statuses = [announce(owner)[0] for _ in range(limits.ROTATIONS.burst + 20)]
    assert statuses[: limits.ROTATIONS.burst] == [200] * limits.ROTATIONS.burst
    assert statuses[-1] == 429
    told = events(operator, owner)
    assert told["rotation-replaced"] == auditing.IN_WINDOW
    assert 0 < told["rotation-starved"] <= auditing.IN_WINDOW
    assert owner.hello().status_code == 200, "hello has a meter of its own"


def test_s71_every_event_that_a_guest_can_cause_is_metered(operator: Operator, owner: SimulatedAgent) -> None:
    for _ in range(limits.ROTATIONS.burst + 10):
        rotate(owner)
    task = operator.task(operator.workflow(), server="s")
    taken = owner.claim(nonce=owner.nonce).json()["task"]
    for attempt in range(2, auditing.IN_WINDOW + 8):
        lease = {"id": task["id"], "attempt": attempt, "claim_id": new_id()}
        assert owner.heartbeat(lease).status_code == 200, "a lease that the store forgot"
    assert taken["id"] == task["id"]
    for _ in range(auditing.IN_WINDOW + 5):
        owner.heartbeat({"id": new_id(), "attempt": 1, "claim_id": new_id()})
        owner.claim()
    told = events(operator, owner)
    assert told["rotated"] <= limits.ROTATIONS.burst
    for kind in ("lease-remembered", "refused", "duplicate-agent"):
        assert told[kind] == auditing.IN_WINDOW, kind


def test_s71_a_thief_at_another_replica_is_seen_there(operators: tuple[Operator, Operator]) -> None:
    operator, other = operators
    owner = operator.agent(server=new_id())
    assert owner.claim(nonce=owner.nonce).status_code == 204
    assert code(owner.at(other.url).claim()) == (409, "identity-in-use")
    assert events(operator, owner)["duplicate-agent"] == 1
