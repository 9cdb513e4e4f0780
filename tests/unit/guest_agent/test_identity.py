# SPDX-License-Identifier: Apache-2.0
"""The identity on a copied disk: the credential stays with the machine it was made on (S63)."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from guest_agent.config import Config
from guest_agent.errors import ConfigError
from guest_agent.identity import Identity
from guest_agent.state_dir import StateDir

AGENT = str(uuid.uuid4())


def _config(letter: str) -> Config:
    token = f"hwj1.{AGENT.replace('-', '')}.{letter * 43}"
    return Config(api_url="http://127.0.0.1:1", agent_id=AGENT, join_token=token)


def test_s63_on_another_machine_the_credential_is_parked_and_a_new_join_token_is_wanted(state: StateDir) -> None:
    first = Identity(_config("a"), state.root, "b", "uuid-1").token()
    assert Identity(_config("a"), state.root, "b", "uuid-1").token() == first
    for config in (_config("a"), dataclasses.replace(_config("a"), join_token=None), _config("a")):
        with pytest.raises(ConfigError, match="new join token"):
            Identity(config, state.root, "b", "uuid-2")
    fresh = Identity(_config("b"), state.root, "b", "uuid-2").token()
    assert fresh != first
    assert Identity(_config("b"), state.root, "b", "uuid-2").token() == fresh


def test_a_machine_that_shows_no_uuid_keeps_its_credential(state: StateDir) -> None:
    first = Identity(_config("a"), state.root, "b", "uuid-1").token()
    assert Identity(_config("a"), state.root, "b", "").token() == first
