# SPDX-License-Identifier: Apache-2.0
"""Credentials: the two kinds of agent token, made, read and compared. Only hashes are ever stored.

SHA-256 without salt or stretching is enough: every secret has 256 random bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import secrets
import uuid

JOIN = "hwj1"
CREDENTIAL = "hwa1"
_TOKEN = re.compile(r"(hwj1|hwa1)\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclasses.dataclass(frozen=True)
class Token:
    """A bearer token taken apart. Its repr shows no secret."""

    kind: str
    agent_id: str
    secret_hash: str


def parse(text: str) -> Token | None:
    """The token, None if the text is none."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        return None
    kind, agent_hex, secret = match.groups()
    return Token(kind, str(uuid.UUID(agent_hex)), hashlib.sha256(secret.encode()).hexdigest())


def new_join_token(agent_id: str) -> tuple[str, str]:
    """A fresh join token for the agent and the hash to keep of it."""
    secret = secrets.token_urlsafe(32)
    return f"{JOIN}.{uuid.UUID(agent_id).hex}.{secret}", hashlib.sha256(secret.encode()).hexdigest()


def matches(presented: str, kept: str | None) -> bool:
    """Constant-time comparison; where nothing is kept, one is made all the same, so that the two take as long."""
    return hmac.compare_digest(presented, kept or _NOBODY) and kept is not None
