# SPDX-License-Identifier: Apache-2.0
"""Who the agent is towards the API: a credential enrolled once and rotated, and the nonce of this process."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time

from guest_agent.api_client import ApiClient
from guest_agent.config import Config
from guest_agent.credential import (
    Credential,
    add_secret,
    drop_newer,
    find_credential,
    find_parked,
    make_credential,
    mark_enrolled,
    park_credential,
    wipe_credential,
)
from guest_agent.errors import ApiError, ConfigError, DamagedRecord
from guest_agent.failpoints import failpoint
from guest_agent.folder import Folder
from guest_agent.records import read_record, write_record

LOG = logging.getLogger(__name__)

ROTATE_AT_START = 3600.0
ROTATE_RETRY = 60.0
_NONCES = "nonce"


class Identity:
    """The credential and the nonce. ``previous_nonces`` are those the API may still know, newest first.

    ``token`` and ``rotate_if_due`` may be called from any thread.
    """

    def __init__(self, config: Config, folder: Folder, boot_id: str, hw_uuid: str = "") -> None:
        """Take up the credential kept, or make one for the join token; ConfigError when there is neither.

        One kept for a machine with another ``hw_uuid`` is put aside: a copy needs a join token of its own.
        """
        self._folder = folder
        self._hw_uuid = hw_uuid
        self.nonce = f"{secrets.token_hex(16)}.{boot_id}"
        self.previous_nonces = self._load_nonces()
        self._join_token = config.join_token
        self._credential = self._usable(config) or self._new(config)
        self._active = 0
        self._rotate_at = float("inf")
        self._rotate_after = float("inf")
        self._lock = threading.Lock()

    @property
    def agent_id(self) -> str:
        """The id the API knows this agent by."""
        return self._credential.agent_id

    def token(self) -> str:
        """The bearer token of the moment."""
        with self._lock:
            return self._credential.token(self._active)

    def ensure_enrolled(self, client: ApiClient) -> None:
        """Enroll if that has not been confirmed yet; after a lost answer the same is asked again."""
        if self._credential.enrolled or self._join_token is None:
            return
        client.enroll(self._join_token, self._credential.secrets[0].sha256, self.nonce, self._hw_uuid or None)
        failpoint("enroll.answered")
        self._credential = mark_enrolled(self._folder, self._credential)
        LOG.info("agent %s: enrolled", self.agent_id)

    def take_new_join_token(self, config: Config) -> bool:
        """After a refusal: whether the settings hold another join token; if so there is a new credential for it."""
        if config.join_token is None or _digest(config.join_token) == self._credential.join_sha256:
            return False
        self._join_token = config.join_token
        self._credential, self._active = self._new(config), 0
        return True

    def fall_back(self) -> bool:
        """After a refusal: whether there is an older secret to try. Once all were refused the newest is next.

        The newest is refused when a crash came between making and announcing it; the others when the API's store was
        restored to an older state. In the normal state none of this happens: an old secret raises the alarm.
        """
        with self._lock:
            self._active = (self._active + 1) % len(self._credential.secrets)
            return self._active != 0

    def accepted(self, rotate_after: float, rotate_now: bool) -> None:
        """The API has taken the present secret in a hello; forget what it does not know, plan the next rotation."""
        with self._lock:
            if self._active:
                self._credential = drop_newer(self._folder, self._credential, self._active)
                self._active = 0
            self._rotate_after = rotate_after
            due = rotate_now or time.time() - self._credential.secrets[0].made_at > ROTATE_AT_START
            self._rotate_at = time.monotonic() + (0 if due else rotate_after)

    def rotate_if_due(self, client: ApiClient) -> None:
        """Announce a new secret when it is time and use it from then on; after a failure the old one serves on."""
        with self._lock:
            if time.monotonic() < self._rotate_at:
                return
            self._rotate_at = time.monotonic() + ROTATE_RETRY
            if not self._active and not self._add_secret():
                return
            # After a restore the secret in use is not the last but one: it is however old the store is.
            old, fresh = self._credential.token(self._active), self._credential.secrets[0]
        failpoint("rotate.made")
        try:
            client.rotate(fresh.sha256, old)
            failpoint("rotate.answered")
        except ApiError as error:
            LOG.warning("agent %s: rotation failed, the old secret serves on: %s", self.agent_id, error)
            return
        with self._lock:
            self._active = 0
            self._rotate_at = time.monotonic() + self._rotate_after
        LOG.info("agent %s: rotated its secret", self.agent_id)

    def _add_secret(self) -> bool:
        try:
            self._credential, self._active = add_secret(self._folder, self._credential), 1
        except OSError as error:
            LOG.warning("agent %s: no new secret can be kept, the old one serves on: %s", self.agent_id, error.strerror)
            return False
        return True

    def rotate_now(self, client: ApiClient) -> None:
        """Rotate whether it is time or not: the API takes the present secret for nothing else."""
        with self._lock:
            self._rotate_at = 0.0
        self.rotate_if_due(client)

    def remember_nonces(self) -> None:
        """Write down every nonce the API may know, before it hears of ours."""
        write_record(self._folder, _NONCES, {"nonces": [self.nonce, *self.previous_nonces][:3]})

    def forget_previous_nonces(self) -> None:
        """The API knows ours now."""
        self.previous_nonces = []
        write_record(self._folder, _NONCES, {"nonces": [self.nonce]}, durable=False)

    def wipe(self) -> None:
        """Forget everything."""
        wipe_credential(self._folder)
        self._folder.remove(_NONCES)

    def _usable(self, config: Config) -> Credential | None:
        kept = find_credential(self._folder)
        if kept is None or kept.agent_id != config.agent_id:
            return None
        if config.join_token is not None and kept.join_sha256 != _digest(config.join_token):
            return None
        if kept.hw_uuid and self._hw_uuid and kept.hw_uuid != self._hw_uuid:
            LOG.error("agent %s: the credential was made on another machine; it is put aside", kept.agent_id)
            park_credential(self._folder)
            return None
        return kept

    def _new(self, config: Config) -> Credential:
        if config.join_token is None:
            raise ConfigError(
                f"agent {config.agent_id}: no credential kept and no join_token in the settings; "
                "ask the operator of the API for a new join token (rejoin) and put it into agent.conf"
            )
        if find_parked(self._folder) == _digest(config.join_token):
            raise ConfigError(
                f"agent {config.agent_id}: this machine is a copy of the one that used the join_token in the settings; "
                "ask the operator of the API for a new join token (rejoin, or another agent) and put it into agent.conf"
            )
        return make_credential(self._folder, config.agent_id, config.join_token, self._hw_uuid)

    def _load_nonces(self) -> list[str]:
        try:
            return [str(nonce) for nonce in read_record(self._folder, _NONCES)["nonces"]]
        except (FileNotFoundError, DamagedRecord, KeyError, TypeError):
            return []


def _digest(join_token: str) -> str:
    return hashlib.sha256(join_token.encode()).hexdigest()
