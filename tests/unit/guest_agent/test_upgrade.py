# SPDX-License-Identifier: Apache-2.0
"""The order of an upgrade: what it may say, and what is told of one that makes no sense."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from guest_agent.errors import UpgradeError
from guest_agent.main import main
from guest_agent.upgrade import Wish, read_wish

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("inputs", "wish"),
    [
        ({"sha256": DIGEST}, Wish(DIGEST)),
        ({"sha256": DIGEST, "trial_seconds": None, "version": None, "allow_older": None}, Wish(DIGEST)),
        (
            {"sha256": DIGEST, "trial_seconds": "90", "version": "1.2.3", "allow_older": "True"},
            Wish(DIGEST, "1.2.3", 90, True),
        ),
        ({"sha256": DIGEST, "allow_older": False, "deploy_action": "CREATE"}, Wish(DIGEST)),
    ],
)
def test_an_order_is_read(inputs: dict[str, Any], wish: Wish) -> None:
    assert read_wish(json.dumps(inputs)) == wish


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the order is a JSON object"),
        ("[]", "the order is a JSON object"),
        ("{}", "sha256 is the digest of a release"),
        (json.dumps({"sha256": DIGEST.upper()}), "sha256 is the digest of a release"),
        (json.dumps({"sha256": [DIGEST]}), "sha256 is the digest of a release"),
        (json.dumps({"sha256": DIGEST, "version": "newest"}), "version is a version such as"),
        (json.dumps({"sha256": DIGEST, "trial_seconds": float("nan")}), "from 1 to 3600"),
        (json.dumps({"sha256": DIGEST, "trial_seconds": 86400}), "from 1 to 3600"),
        (json.dumps({"sha256": DIGEST, "trial_seconds": [1]}), "from 1 to 3600"),
        (json.dumps({"sha256": DIGEST, "allow_older": 2}), "allow_older is true or false"),
        (json.dumps({"sha256": DIGEST, "from": "https://evil.example"}), "unknown input from; known: sha256"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(UpgradeError, match=words):
        read_wish(text)


def test_an_agent_that_is_not_one_file_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"sha256": DIGEST})))
    assert main(["upgrade"]) == 1
    assert "this agent is not one file" in capsys.readouterr().err
