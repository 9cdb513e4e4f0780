# SPDX-License-Identifier: Apache-2.0
"""Join tokens under attack: guessed, shown again, flooded; and never in the way of the machine they are for."""

from __future__ import annotations

import base64
import secrets
import statistics
import threading
import time
import uuid
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from tests.functional.attacks.state import Steady, audits, rows
from tests.functional.attacks.world import World
from tests.harness.callers import Operator, SimulatedAgent
from tests.harness.servers import ApiProcess


class _From(HTTPAdapter):
    """Connections from one of loopback's many addresses."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **kwargs)


def from_address(agent: SimulatedAgent, address: str) -> SimulatedAgent:
    agent.session.mount("http://", _From(address))
    return agent


def guess(agent_id: str) -> str:
    return f"hwj1.{uuid.UUID(agent_id).hex}.{secrets.token_urlsafe(32)}"


def test_s17_guessing_is_slowed_down_and_locks_nobody_out(operator: Operator, steady: Steady) -> None:
    agent_id, token = operator.register(server="s")
    guesser = from_address(SimulatedAgent(operator.url, agent_id, token), "127.0.0.17")
    with steady():
        answers = [guesser.enroll(guess(agent_id)) for _ in range(100)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:10] == [401] * 10
    assert statuses.count(429) >= 85
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 429)
    elsewhere = from_address(SimulatedAgent(operator.url, agent_id, token), "127.0.0.18")
    assert elsewhere.enroll(guess(agent_id)).status_code == 429, "the id is slowed down as well"
    owner = SimulatedAgent(operator.url, agent_id, token)
    assert owner.enroll().status_code == 201


def test_s17_the_right_token_passes_even_beside_a_guesser(operator: Operator) -> None:
    """Guests behind one router share an address; one of them must not keep the others out."""
    victim, token = operator.register(server="a")
    guesser = from_address(SimulatedAgent(operator.url, str(uuid.uuid4()), token), "127.0.0.19")
    statuses = [guesser.enroll(guess(str(uuid.uuid4()))).status_code for _ in range(30)]
    assert set(statuses[10:]) == {429}
    neighbour = from_address(SimulatedAgent(operator.url, victim, token), "127.0.0.19")
    assert neighbour.enroll().status_code == 201


def test_s17_another_clients_forwarded_address_is_not_believed(operator: Operator) -> None:
    liar = from_address(SimulatedAgent(operator.url, str(uuid.uuid4()), ""), "127.0.0.20")
    statuses = []
    for number in range(30):
        headers = {"X-Forwarded-For": f"10.0.0.{number}", "Authorization": f"Bearer {guess(str(uuid.uuid4()))}"}
        body = {"credential_sha256": "0" * 64, "nonce": "n"}
        url = f"{operator.url}/agent/v1/enroll"
        statuses.append(liar.session.post(url, json=body, headers=headers, timeout=10).status_code)
    assert statuses.count(429) >= 15


def test_s54_a_flood_of_enrolments_leaves_the_others_their_place(operator: Operator) -> None:
    flood: list[int] = []
    over = threading.Event()

    def attack(address: str) -> None:
        attacker = from_address(SimulatedAgent(operator.url, str(uuid.uuid4()), ""), address)
        while not over.is_set():
            flood.append(attacker.enroll(guess(str(uuid.uuid4()))).status_code)

    threads = [threading.Thread(target=attack, args=("127.0.0.54",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        took = [_enrolment_seconds(operator) for _ in range(25)]
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert max(took) < 1, f"median {statistics.median(took):.3f} s"
    assert set(flood) == {401, 429}
    assert flood.count(401) < 20


def _enrolment_seconds(operator: Operator) -> float:
    agent = SimulatedAgent(operator.url, *operator.register())
    began = time.monotonic()
    assert agent.enroll().status_code == 201
    return time.monotonic() - began


def test_s55_a_flood_of_replays_writes_few_security_events(api: ApiProcess, operator: Operator) -> None:
    agent_id, token = operator.register(server="s")
    assert SimulatedAgent(operator.url, agent_id, token).enroll().status_code == 201
    thief = SimulatedAgent(operator.url, agent_id, token)
    assert {thief.enroll().status_code for _ in range(100)} == {401}
    written = audits(api, agent_id)
    assert "join-token-reused" in written
    assert len(written) <= 15


def test_s55_a_flood_of_forbidden_reports_writes_few_security_events(api: ApiProcess, world: World) -> None:
    forged = {**world.taken, "id": str(uuid.uuid4())}
    statuses = {world.agent.report(forged).status_code for _ in range(150)}
    assert statuses == {404, 429}
    assert audits(api, world.ids.agent_id).count("refused") == 10


def test_s61_what_the_store_keeps_opens_nothing(api: ApiProcess, world: World, steady: Steady) -> None:
    agent_id = world.ids.agent_id
    pending, _ = world.owner.register(server="other")
    (kept,) = rows(api, "SELECT * FROM agent WHERE id = ?", agent_id)
    (unused,) = rows(api, "SELECT * FROM agent WHERE id = ?", pending)
    with steady():
        for digest in (kept["cred_hash"], kept["join_hash"], kept["join_used_by"], unused["join_hash"]):
            for secret in (digest, digest[:43], _as_secret(digest)):
                for owner in (agent_id, pending):
                    name = uuid.UUID(owner).hex
                    assert _status(api, "claim", f"hwa1.{name}.{secret}") == 401
                    assert _status(api, "enroll", f"hwj1.{name}.{secret}") in (401, 429)


def _as_secret(digest: str) -> str:
    """A digest in the form of a secret."""
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")


def _status(api: ApiProcess, what: str, token: str) -> int:
    body = {"claim": {"claim_id": str(uuid.uuid4())}, "enroll": {"credential_sha256": "0" * 64, "nonce": "n"}}[what]
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(f"{api.url}/agent/v1/{what}", json=body, headers=headers, timeout=10).status_code
