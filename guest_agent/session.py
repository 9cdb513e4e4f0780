# SPDX-License-Identifier: Apache-2.0
"""A session with the API: the hello that begins it and the intervals to live by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guest_agent import VERSION
from guest_agent.api_client import ApiClient
from guest_agent.errors import Conflict
from guest_agent.failpoints import failpoint
from guest_agent.identity import Identity
from guest_agent.inventory import get_inventory
from guest_agent.spool import Entry
from guest_agent.untrusted import as_seconds

IDENTITY_IN_USE, SUPERSEDED, CLAIM_OVER = "identity-in-use", "superseded", "claim-over"
ROTATE_AFTER = 43200.0
# What an API may wish, in seconds; beyond that it is out of order, and the agent has to find back to it by itself.
ROTATE_RANGE, HEARTBEAT_RANGE, WAIT_RANGE = (60.0, 30 * 86400.0), (2.0, 300.0), (0.0, 120.0)


@dataclass(frozen=True)
class Session:
    """What the API wished in its answer to hello, in seconds."""

    heartbeat_interval: float
    max_wait: float


def begin_session(client: ApiClient, identity: Identity, journal: list[Entry]) -> Session:
    """Enroll if need be and say hello; a previous nonce proves that we are the one from before."""
    identity.ensure_enrolled(client)
    identity.remember_nonces()
    body: dict[str, Any] = {
        "nonce": identity.nonce,
        "version": VERSION,
        "inventory": get_inventory(),
        "journal": [entry.wire() for entry in journal],
    }
    answer = _introduce(client, identity, body)
    failpoint("hello.answered")
    identity.forget_previous_nonces()
    identity.accepted(as_seconds(answer.get("rotate_after"), ROTATE_AFTER, *ROTATE_RANGE), answer.get("rotate") is True)
    return Session(
        heartbeat_interval=as_seconds(answer.get("heartbeat_interval"), 20.0, *HEARTBEAT_RANGE),
        max_wait=as_seconds(answer.get("max_wait"), 50.0, *WAIT_RANGE),
    )


def _introduce(client: ApiClient, identity: Identity, body: dict[str, Any]) -> dict[str, Any]:
    for previous in identity.previous_nonces:
        try:
            return client.hello({**body, "previous_nonce": previous})
        except Conflict as error:
            if error.code != IDENTITY_IN_USE:
                raise
    return client.hello(body)
