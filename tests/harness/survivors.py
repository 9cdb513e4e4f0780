# SPDX-License-Identifier: Apache-2.0
"""Harness: the real agent's own loop and credential in a thread, for drills with more agents than processes."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from guest_agent.api_client import ApiClient
from guest_agent.backoff import Backoff
from guest_agent.config import Config
from guest_agent.hooks import Hooks
from guest_agent.hooks.heat_config import HeatConfigHook
from guest_agent.identity import Identity
from guest_agent.interruption import Interruptions
from guest_agent.live_configs import LiveConfigs
from guest_agent.loop import Loop
from guest_agent.runner import Runner
from guest_agent.spool import Spool
from guest_agent.state_dir import StateDir
from guest_agent.status import StatusFile

_BOOT = "00000000-0000-4000-8000-000000000001"
_IMPATIENCE = 0.1  # what a second of the agent's back-off takes in a drill


class Survivor:
    """One agent. Its machine is never touched again: only what it keeps itself brings it back."""

    def __init__(self, directory: Path, url: str, agent_id: str, join_token: str) -> None:
        self.directory = directory
        self._config = Config(url, agent_id, join_token, state_dir=str(directory))
        self._state = StateDir(str(directory))
        self.identity = Identity(self._config, self._state.root, _BOOT)
        self._client = ApiClient(url, None, self.identity.token)
        self._thread: threading.Thread | None = None

    def join(self) -> None:
        """Use the join token, and say hello."""
        self.identity.ensure_enrolled(self._client)
        self._hello()

    def rotate(self) -> None:
        """As it does every twelve hours."""
        self.identity.rotate_now(self._client)
        self._hello()

    def _hello(self) -> None:
        self._client.hello({"nonce": self.identity.nonce})
        self.identity.accepted(43200.0, False)

    def live(self) -> None:
        """Work in a thread until revoked."""
        spool = Spool(self._state.spool, _BOOT)
        runner = Runner(self._state)
        loop = Loop(
            client=self._client,
            identity=self.identity,
            spool=spool,
            runner=runner,
            hooks=Hooks(HeatConfigHook((), LiveConfigs(self._state.root))),
            status=StatusFile(self._state.root, self._config.agent_id),
            backoff=Backoff(random.Random(1)),
            reload_config=lambda: self._config,
            interruptions=Interruptions(runner, spool, _BOOT, ()),
            sleep=lambda seconds: time.sleep(seconds * _IMPATIENCE),
        )
        self._thread = threading.Thread(target=loop.run)
        self._thread.start()

    def end(self, within: float = 30) -> None:
        """Wait for the end of its life; it was revoked."""
        if self._thread is not None:
            self._thread.join(within)
            assert not self._thread.is_alive(), f"agent {self._config.agent_id} did not hear that it was revoked"
        self._client.close()
