# SPDX-License-Identifier: Apache-2.0
"""agent.conf: what is read from it, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest_agent.config import load_config
from guest_agent.errors import ConfigError

AGENT = "0b6e3f5c-6f0b-4a51-9e5e-2f3a5e2d0c11"
TOKEN = f"hwj1.{AGENT.replace('-', '')}.{'s' * 43}"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\nAAAA\n-----END CERTIFICATE-----\n"


def _load(tmp_path: Path, **options: str) -> object:
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    (tmp_path / "agent.conf").write_text(f"[agent]\n{lines}")
    return load_config(str(tmp_path / "agent.conf"))


def test_a_full_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "agent.conf").write_text(
        f"[agent]\napi_url = https://api.example.org:8790/\nagent_id = {AGENT.upper()}\njoin_token = {TOKEN}\n"
        f"ca_pem =\n    {PEM.strip().replace(chr(10), chr(10) + '    ')}\nstate_dir = /srv/hw\nhooks_dirs = /a:/b\n"
    )
    config = load_config(str(tmp_path / "agent.conf"))
    assert config.api_url == "https://api.example.org:8790"
    assert config.agent_id == AGENT
    assert config.join_token == TOKEN
    assert config.ca_pem == PEM
    assert (config.state_dir, config.hooks_dirs) == ("/srv/hw", ("/a", "/b"))


def test_the_agent_id_may_come_from_the_join_token(tmp_path: Path) -> None:
    (tmp_path / "agent.conf").write_text(f"[agent]\napi_url = https://a\njoin_token = {TOKEN}\n")
    assert load_config(str(tmp_path / "agent.conf")).agent_id == AGENT


def test_the_join_token_does_not_show_in_the_repr(tmp_path: Path) -> None:
    assert TOKEN not in repr(_load(tmp_path, api_url="https://a", agent_id=AGENT, join_token=TOKEN))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8790", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9"])
def test_http_is_accepted_on_loopback(tmp_path: Path, url: str) -> None:
    _load(tmp_path, api_url=url, agent_id=AGENT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"agent_id": AGENT}, "api_url"),
        ({"api_url": "ftp://a", "agent_id": AGENT}, "api_url"),
        ({"api_url": "http://api.example.org", "agent_id": AGENT}, "must be https"),
        ({"api_url": "http://127.0.0.1.example.org", "agent_id": AGENT}, "must be https"),
        ({"api_url": "https://user:pw@a", "agent_id": AGENT}, "must not hold a user"),
        ({"api_url": "https://a"}, "agent_id"),
        ({"api_url": "https://a", "agent_id": "seven"}, "'seven' is not a UUID"),
        ({"api_url": "https://a", "join_token": "hwa1.x.y"}, "not a join token"),
        ({"api_url": "https://a", "agent_id": AGENT.replace("0", "1"), "join_token": TOKEN}, "was made for agent"),
        ({"api_url": "https://a", "agent_id": AGENT, "ca_file": "/nowhere.pem"}, "/nowhere.pem cannot be read"),
        ({"api_url": "https://a", "agent_id": AGENT, "ca_pem": "MIIB"}, "ca_pem is not a PEM certificate"),
        ({"api_url": "https://a", "agent_id": AGENT, "hooks_dirs": "a:/b"}, "hooks_dirs must be absolute"),
        ({"api_url": "https://a", "agent_id": AGENT, "hook_dirs": "/b"}, "unknown option hook_dirs"),
    ],
)
def test_an_error_names_the_file_and_the_option(tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, **options)
    assert words in str(caught.value)
    assert str(tmp_path / "agent.conf") in str(caught.value)


def test_a_missing_file_a_missing_section_and_no_ini_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "agent.conf"
    with pytest.raises(ConfigError, match="No such file"):
        load_config(str(path))
    path.write_text("[other]\n")
    with pytest.raises(ConfigError, match=r"no section \[agent\]"):
        load_config(str(path))
    path.write_text("join_token = secret-in-a-wrong-place\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert "secret-in-a-wrong-place" not in str(caught.value)
