# SPDX-License-Identifier: Apache-2.0
"""The heartbeat of a hook goes on after what nobody expects."""

from __future__ import annotations

import logging
import threading
import uuid
from typing import Any

import pytest

from guest_agent import heartbeat
from guest_agent.api_client import ApiClient
from guest_agent.task import Attempt


def test_g28_a_heartbeat_that_meets_an_unexpected_error_is_not_the_last(
    api: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the lease would be lost, and no cancel would reach the hook."""
    monkeypatch.setattr(heartbeat, "LEAST_INTERVAL", 0.01)
    answers, stopped = iter([RuntimeError("odd")]), threading.Event()

    def contact() -> None:
        for error in answers:
            api.answers["heartbeat"] = lambda _call: (200, {"cancel": True, "grace": 1})
            raise error

    client = ApiClient(api.url, None, lambda: "x" * 43)
    beats = heartbeat.Heartbeat(
        client,
        Attempt(str(uuid.uuid4()), 1, str(uuid.uuid4())),
        interval=0.01,
        first=0.0,
        stop=lambda _why, _grace: stopped.set(),
        contact=contact,
        rotate=lambda _client: None,
    )
    with caplog.at_level(logging.ERROR), beats:
        assert stopped.wait(20), "no cancel reached the hook"
    client.close()
    assert "a heartbeat met an error; the next one is tried" in caplog.text
