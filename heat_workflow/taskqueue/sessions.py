# SPDX-License-Identifier: Apache-2.0
"""Sessions, agent side: enrol once with a join token, prove the credential at every call, say hello at each start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from heat_workflow import errors, lifecycle, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Agent, AgentState, Json, TaskState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, auditing, credentials, settling

T = TypeVar("T")
CREDENTIAL_LIFE = 86400.0  # seconds; a machine that was off for longer comes back by rotating
ROTATE_AFTER = CREDENTIAL_LIFE / 2
_OVERLAP = 60.0  # seconds the old secret is good after its successor's first use: connections run in parallel
_OLD_KEPT = 16  # generations remembered, so that their use is recognised
CLAIMS_WITH_NONCE = ""  # kept among the inventory, under the one name that no guest can give to a value of its own
LATE_MOST = 20  # late reports kept of one task, a few KiB each
_THEFT_WINDOW = 900.0  # seconds after the first use in which a second key makes the agent suspect


def refused() -> errors.Unauthenticated:
    """One answer for every reason: a prober learns nothing."""
    return errors.Unauthenticated("the token is not valid here")


def enroll(
    tx: Tx, token: credentials.Token, credential_hash: str, hw_uuid: str | None, version: str | None
) -> tuple[Agent, bool]:
    """The agent and whether this call enrolled it; the same key again is the same answer (its reply was lost).

    Raises Unauthenticated for every refusal. A used token shown with another key within 15 minutes makes the agent
    suspect: thief and owner cannot be told apart, so neither gets work. ``find_refusal`` records that.
    """
    agent = tx.lock_agent(token.agent_id)
    if agent is None or not credentials.matches(token.secret_hash, agent.join_hash):
        raise refused()
    if agent.join_used_by == credential_hash and agent.state is not AgentState.REVOKED:
        return agent, False
    if agent.state is not AgentState.PENDING or agent.join_used_at is not None:
        raise refused()
    if agent.join_expires_at is None or agent.join_expires_at <= tx.now:
        raise refused()
    enrolled = dataclasses.replace(
        agent,
        state=AgentState.ACTIVE,
        join_used_at=tx.now,
        join_used_by=credential_hash,
        cred_hash=credential_hash,
        cred_gen=agent.cred_gen + 1,
        cred_made_at=tx.now,
        prev_hash=None,
        hw_uuid=hw_uuid,
        version=version,
        last_seen_at=tx.now,
    )
    failpoint("enroll.checked")
    tx.save_agent(enrolled)
    failpoint("enroll.saved")
    tx.insert_agent_event(enrolled, "enrolled", {"generation": enrolled.cred_gen})
    failpoint("enroll.noted")
    return enrolled, True


def knows_join_token(tx: Tx, token: credentials.Token) -> bool:
    """Whether the join token is the agent's, used up and expired ones included. Reads only, so guessing is cheap."""
    agent = tx.find_agent(token.agent_id)
    return credentials.matches(token.secret_hash, agent.join_hash if agent else None)


def record_refused_enroll(tx: Tx, token: credentials.Token, credential_hash: str) -> None:
    """Note a used join token shown with another key; soon after its first use it locks the agent (S14)."""
    agent = tx.lock_agent(token.agent_id)
    if agent is None or agent.join_used_at is None or agent.state is AgentState.REVOKED:
        return
    if not credentials.matches(token.secret_hash, agent.join_hash) or agent.join_used_by == credential_hash:
        return
    if agent.state is AgentState.ACTIVE and tx.now - agent.join_used_at <= _THEFT_WINDOW:
        tx.save_agent(dataclasses.replace(agent, state=AgentState.SUSPECT))
        tx.wake(f"agent:{agent.id}")
    if auditing.is_worth_a_row(tx, agent.id, "join-token-reused"):
        tx.insert_agent_event(agent, "join-token-reused", {})


def authenticate(tx: Tx, token: credentials.Token, rotating: bool) -> Agent:
    """The agent whose credential this is. Reads only.

    Unauthenticated; Gone for the holder of a revoked one. A credential past its day is good where ``rotating`` alone
    (code ``rotate-required``).
    """
    agent = tx.find_agent(token.agent_id)
    kept = agent.cred_hash if agent else None
    if agent is None or not (credentials.matches(token.secret_hash, kept) or _also_good(agent, token, tx.now)):
        raise refused()
    if agent.state is AgentState.REVOKED:
        raise errors.Gone(f"agent {agent.id} was revoked", code="revoked")
    if agent.state is not AgentState.ACTIVE:
        raise refused()
    is_next = credentials.matches(token.secret_hash, agent.next_hash)
    stale = agent.cred_made_at is not None and tx.now - agent.cred_made_at > CREDENTIAL_LIFE
    if stale and not rotating and not is_next:
        raise errors.Unauthenticated("the credential is older than a day; rotate it first", code="rotate-required")
    return agent


def proving(tx: Tx, token: credentials.Token, use_case: Callable[[Tx], T]) -> T:
    """What the agent's use case gives, its credential being the present one; else as ``authenticate``."""
    agent = authenticate(tx, token, False)
    if credentials.matches(token.secret_hash, agent.next_hash):
        raise refused()  # its first use is to be recorded
    return use_case(tx)


def _also_good(agent: Agent, token: credentials.Token, now: float) -> bool:
    """The next secret, announced; or the one before while connections that began with it end."""
    if credentials.matches(token.secret_hash, agent.next_hash):
        return True
    in_time = agent.prev_until is not None and agent.prev_until > now
    return credentials.matches(token.secret_hash, agent.prev_hash) and in_time


def rotate(tx: Tx, agent_id: str, next_hash: str) -> None:
    """Announce the secret that the agent will use next; its first use makes it the one. May be repeated.

    Another one in place of one that was not used yet is an event: an honest agent has a reason for it at most once in
    a while, a thief who wants to keep the old secret good does nothing else.
    """
    agent = tx.lock_agent(agent_id)
    if agent is None or agent.state is AgentState.REVOKED:
        raise errors.Gone(f"agent {agent_id} was revoked", code="revoked")
    if credentials.matches(next_hash, agent.cred_hash):
        return
    if next_hash in (agent.prev_hash, *agent.old_hashes):
        raise errors.Conflict("a secret that was used before cannot be the next one", code="used-before")
    if agent.next_hash not in (None, next_hash) and auditing.is_worth_a_row(tx, agent_id, "rotation-replaced"):
        tx.insert_agent_event(agent, "rotation-replaced", {"generation": agent.cred_gen})
    tx.save_agent(dataclasses.replace(agent, next_hash=next_hash))


def record_starved(tx: Tx, agent_id: str) -> None:
    """Too many next secrets were announced for one more: somebody keeps the agent from rotating, or it is broken."""
    agent = tx.find_agent(agent_id)
    if agent is not None and auditing.is_worth_a_row(tx, agent_id, "rotation-starved"):
        tx.insert_agent_event(agent, "rotation-starved", {"generation": agent.cred_gen})


def promote(tx: Tx, token: credentials.Token) -> None:
    """First use of the next secret: it becomes the credential, the old one is good for a minute more."""
    agent = tx.lock_agent(token.agent_id)
    if agent is None or not credentials.matches(token.secret_hash, agent.next_hash):
        return
    old = [*agent.old_hashes, agent.prev_hash] if agent.prev_hash else list(agent.old_hashes)
    tx.save_agent(
        dataclasses.replace(
            agent,
            cred_hash=agent.next_hash,
            cred_gen=agent.cred_gen + 1,
            cred_made_at=tx.now,
            next_hash=None,
            prev_hash=agent.cred_hash,
            prev_until=tx.now + _OVERLAP,
            old_hashes=old[-_OLD_KEPT:],
        )
    )
    if auditing.is_worth_a_row(tx, agent.id, "rotated"):
        tx.insert_agent_event(agent, "rotated", {"generation": agent.cred_gen + 1})


def record_refused_credential(tx: Tx, token: credentials.Token) -> None:
    """An old generation was used: thief and owner cannot be told apart, so the agent is suspect (S19)."""
    agent = tx.lock_agent(token.agent_id)
    if agent is None or agent.state is not AgentState.ACTIVE or token.secret_hash not in _outdated(agent, tx.now):
        return
    tx.save_agent(dataclasses.replace(agent, state=AgentState.SUSPECT))
    tx.insert_agent_event(agent, "old-credential", {"generation": agent.cred_gen})
    tx.wake(f"agent:{agent.id}")


def may_be_old(tx: Tx, token: credentials.Token) -> bool:
    """Whether a refused token is an old generation of its agent: then the refusal is to be recorded. Reads only."""
    agent = tx.find_agent(token.agent_id)
    return agent is not None and token.secret_hash in _outdated(agent, tx.now)


def _outdated(agent: Agent, now: float) -> list[str]:
    over = agent.prev_until is None or agent.prev_until <= now
    return [*agent.old_hashes, agent.prev_hash] if agent.prev_hash and over else list(agent.old_hashes)


def hello(
    tx: Tx,
    agent_id: str,
    nonce: str,
    previous_nonce: str | None,
    version: str | None,
    inventory: Mapping[str, Json],
    journal: Collection[tuple[str, int]],
    alive: bool,
) -> Agent:
    """Open a session; the one session of this agent.

    Leases the agent's journal does not know were lost on the way to it and never started: they go back to the queue
    without costing an attempt. Conflict (identity-in-use) while another process that holds the identity is alive:
    ``alive`` says that one of its polls is waiting here, else it counts as alive for two heartbeats after it was seen.
    """
    agent = tx.lock_agent(agent_id)
    if agent is None or agent.state is AgentState.REVOKED:
        raise errors.Gone(f"agent {agent_id} was revoked", code="revoked")
    if agent.nonce not in (None, nonce, previous_nonce):
        seen = agent.last_seen_at or 0.0
        if alive or tx.now - seen < 2 * model.HEARTBEAT_INTERVAL:
            raise identity_in_use(agent_id)
    kept = {CLAIMS_WITH_NONCE: True} if agent.nonce == nonce and claims_with_nonce(agent) else {}
    told = {**inventory, **kept}
    greeted = dataclasses.replace(agent, nonce=nonce, version=version, inventory=told, last_seen_at=tx.now)
    tx.save_agent(greeted)
    unknown = [task for task in tx.held_tasks(agent.id) if (task.id, task.attempt) not in journal]
    settling.lock_workflows(tx, unknown)
    for task in unknown:
        _give_back(tx, task)
    return greeted


def claims_with_nonce(agent: Agent) -> bool:
    """Whether the process that has this session sends its nonce with its claims, as all but old agents do: then one
    without is another's."""
    return agent.nonce is not None and CLAIMS_WITH_NONCE in agent.inventory


def is_of_another(agent: Agent, nonce: str | None) -> bool:
    """Whether a claim with this nonce, None for one without, comes from another process than the one that has the
    session."""
    return claims_with_nonce(agent) if nonce is None else agent.nonce not in (None, nonce)


def note_claims_with_nonce(tx: Tx, agent_id: str, nonce: str) -> None:
    """The session's first claim that holds its nonce. Until then, and again after the next hello, it may lack: an agent
    may be exchanged for an older release, which sends none."""
    agent = tx.lock_agent(agent_id)
    if agent is not None and agent.nonce == nonce and not claims_with_nonce(agent):
        tx.save_agent(dataclasses.replace(agent, inventory={**agent.inventory, CLAIMS_WITH_NONCE: True}))
        tx.wake(f"agent:{agent_id}")  # one that waits without is another's


def identity_in_use(agent_id: str) -> errors.Conflict:
    return errors.Conflict(f"another process uses the identity of agent {agent_id}", code="identity-in-use")


def record_duplicate(tx: Tx, agent_id: str) -> None:
    """Two machines with one identity: the operator is to know (G17)."""
    agent = tx.find_agent(agent_id)
    if agent is not None and auditing.is_worth_a_row(tx, agent_id, "duplicate-agent"):
        tx.insert_agent_event(agent, "duplicate-agent", {})


def record_refusal(
    tx: Tx, agent_id: str, code: str, route: str, late: tuple[str, Mapping[str, Json]] | None = None
) -> None:
    """The agent asked for what is not its own, or said what it may not say.

    ``late`` is a task's id and what is to be kept of the report that came too late for it, or differs from the one
    that is recorded (G6); of one task the first LATE_MOST are kept.
    """
    agent = tx.find_agent(agent_id)
    if agent is None or not auditing.is_worth_a_row(tx, agent_id, "refused"):
        return
    body: dict[str, Json] = {"code": code, "route": route}
    if late is None or len(tx.list_task_agent_events(late[0], LATE_MOST)) == LATE_MOST:
        tx.insert_agent_event(agent, "refused", body)
    else:
        tx.insert_agent_event(agent, "refused", {**body, "task_id": late[0], "report": dict(late[1])}, late[0])


def _give_back(tx: Tx, task: model.Task) -> None:
    attempt = tx.find_attempt(task.id, task.attempt)
    if attempt is not None:
        tx.save_attempt(
            dataclasses.replace(attempt, finished_at=tx.now, result="lost", reason="never reached the agent")
        )
    if task.state is TaskState.CANCELLING:
        settling.move(tx, task, lifecycle.moved(task, TaskState.CANCELLED, tx.now, confirmed=True))
        return
    waiting = lifecycle.moved(task, TaskState.WAITING, tx.now, attempts_left=task.attempts_left + 1, lease_until=None)
    settling.move(tx, task, announcing.readied(tx, waiting))


def seen(tx: Tx, times: Mapping[str, float]) -> None:
    """Write down when agents were last heard of: many at once, as every poll of every agent counts."""
    tx.save_last_seen(times)
