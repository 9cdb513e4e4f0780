# SPDX-License-Identifier: Apache-2.0
"""The agent's own secrets: made here, kept here, known to the API only as hashes."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field, replace

from guest_agent.errors import DamagedRecord
from guest_agent.folder import Folder
from guest_agent.records import read_record, write_record

KEPT_DAYS = 7
KEPT_MOST = 16
_NAME = "credential"
_PARKED = "credential.parked"


@dataclass(frozen=True)
class Secret:
    """One secret of 256 bits. ``made_at`` is this machine's clock and decides nothing but what is kept."""

    text: str = field(repr=False)
    made_at: float = 0.0

    @property
    def sha256(self) -> str:
        """What the API may know of it."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Credential:
    """Who this agent is: its secrets, newest first. ``join_sha256`` tells which join token enrolled it, ``hw_uuid`` on
    which machine ("" where it has no such uuid)."""

    agent_id: str
    secrets: tuple[Secret, ...]
    join_sha256: str = ""
    enrolled: bool = False
    hw_uuid: str = ""

    def token(self, index: int = 0) -> str:
        """The bearer token with the secret at ``index``."""
        return f"hwa1.{self.agent_id.replace('-', '')}.{self.secrets[index].text}"


def make_credential(folder: Folder, agent_id: str, join_token: str, hw_uuid: str = "") -> Credential:
    """A new secret, on the disk before anybody hears of it. One that is there is kept as ``credential.old``."""
    if folder.has(_NAME):
        folder.rename(_NAME, f"{_NAME}.old")
    join_sha256 = hashlib.sha256(join_token.encode()).hexdigest()
    return _kept(folder, Credential(agent_id, (_new_secret(),), join_sha256, hw_uuid=hw_uuid))


def mark_enrolled(folder: Folder, credential: Credential) -> Credential:
    """Remember on the disk that the API has accepted this secret."""
    return _kept(folder, replace(credential, enrolled=True))


def add_secret(folder: Folder, credential: Credential) -> Credential:
    """With one more secret in front. Those before it are kept for a while: a store restored to an older state
    knows one of them."""
    oldest = time.time() - KEPT_DAYS * 86400
    before = credential.secrets[:1] + tuple(old for old in credential.secrets[1:] if old.made_at > oldest)
    return _kept(folder, replace(credential, secrets=(_new_secret(), *before)[:KEPT_MOST]))


def drop_newer(folder: Folder, credential: Credential, index: int) -> Credential:
    """Without the secrets in front of the one at ``index``: the API does not know them."""
    return _kept(folder, replace(credential, secrets=credential.secrets[index:]))


def find_credential(folder: Folder) -> Credential | None:
    """The credential kept, or None. A damaged one is set aside: it is good for nothing."""
    try:
        record = read_record(folder, _NAME)
        return Credential(
            agent_id=str(record["agent_id"]),
            secrets=tuple(Secret(str(text), float(made_at)) for text, made_at in record["secrets"]),
            join_sha256=str(record["join_sha256"]),
            enrolled=bool(record["enrolled"]),
            hw_uuid=str(record.get("hw_uuid", "")),
        )
    except FileNotFoundError:
        return None
    except (DamagedRecord, KeyError, TypeError, ValueError):
        folder.rename(_NAME, f"{_NAME}.damaged")
        return None


def park_credential(folder: Folder) -> None:
    """Put the credential aside: it was made for another machine and must not be used on this one."""
    folder.rename(_NAME, _PARKED)


def find_parked(folder: Folder) -> str:
    """The digest of the join token of the credential that was put aside, "" if none was."""
    try:
        return str(read_record(folder, _PARKED)["join_sha256"])
    except (FileNotFoundError, DamagedRecord, KeyError):
        return ""


def wipe_credential(folder: Folder) -> None:
    """Forget every secret there is."""
    for suffix in ("", ".old", ".damaged", ".parked"):
        folder.remove(_NAME + suffix)


def _new_secret() -> Secret:
    return Secret(secrets.token_urlsafe(32), time.time())


def _kept(folder: Folder, credential: Credential) -> Credential:
    record = {
        "agent_id": credential.agent_id,
        "secrets": [[secret.text, secret.made_at] for secret in credential.secrets],
        "join_sha256": credential.join_sha256,
        "enrolled": credential.enrolled,
        "hw_uuid": credential.hw_uuid,
    }
    write_record(folder, _NAME, record)
    return credential
