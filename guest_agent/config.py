# SPDX-License-Identifier: Apache-2.0
"""The agent's settings: ``agent.conf`` read into one frozen object, or an error that names the option."""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
import shlex
import uuid
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from guest_agent.errors import ConfigError
from guest_agent.hooks.contract import PATH

DEFAULT_PATH = "/etc/heat-workflow/agent.conf"
DEFAULT_STATE_DIR = "/var/lib/heat-workflow"
DEFAULT_HOOKS_DIRS = ("/usr/libexec/heat-config/hooks", "/var/lib/heat-config/hooks")

_OPTIONS = {
    "api_url",
    "agent_id",
    "join_token",
    "ca_pem",
    "ca_file",
    "state_dir",
    "hooks_dirs",
    "hook_path",
    "hook_file_size",
    "reboot_command",
}
_JOIN_TOKEN = re.compile(r"hwj1\.([0-9a-f]{32})\.[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Config:
    """What ``[agent]`` says. ``join_token`` is None once the operator has taken it out.

    ``hook_path`` is PATH for hooks, ``hook_file_size`` the most bytes one file of theirs may have (0: any number).
    ``reboot_command`` restarts the machine when a hook asks for it; it is empty, and
    no machine is restarted, for an agent whose state directory is not the machine's own.
    """

    api_url: str
    agent_id: str
    join_token: str | None = field(default=None, repr=False)
    ca_pem: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    state_dir: str = DEFAULT_STATE_DIR
    hooks_dirs: tuple[str, ...] = DEFAULT_HOOKS_DIRS
    hook_path: str = PATH
    hook_file_size: int = 0
    reboot_command: tuple[str, ...] = ()


def load_config(path: str) -> Config:
    """The settings in the file at ``path``; ConfigError says which option to repair."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; write it or name another with --config") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not an INI file: {type(error).__name__}") from error
    if not parser.has_section("agent"):
        raise ConfigError(f"{path}: there is no section [agent]")
    options = {name: value.strip() for name, value in parser.items("agent") if value.strip()}
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ConfigError(f"{path}: unknown option {', '.join(unknown)}; known: {', '.join(sorted(_OPTIONS))}")
    try:
        return _config(options)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _config(options: dict[str, str]) -> Config:
    join_token = options.get("join_token")
    ca_file = options.get("ca_file")
    if ca_file and "ca_pem" in options:
        raise ConfigError("give ca_pem or ca_file, not both")
    if ca_file and not os.access(ca_file, os.R_OK):
        raise ConfigError(f"ca_file {ca_file} cannot be read")
    return Config(
        api_url=checked_api_url(options.get("api_url", "")),
        agent_id=_agent_id(options.get("agent_id"), join_token),
        join_token=join_token,
        ca_pem=_pem(options.get("ca_pem")),
        ca_file=ca_file,
        state_dir=options.get("state_dir", DEFAULT_STATE_DIR),
        hooks_dirs=_directories(options.get("hooks_dirs")),
        hook_path=_search_path(options.get("hook_path", PATH)),
        hook_file_size=_bytes(options.get("hook_file_size", "0")),
        reboot_command=_reboot_command(options),
    )


def checked_api_url(url: str) -> str:
    """The URL without a trailing slash. It must be https; http is accepted to this machine itself alone."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"api_url {url!r} is not a URL such as https://api.example.org:8790")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("api_url must not hold a user, a query or a fragment")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigError(f"api_url {url!r} must be https: http is accepted on loopback alone")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _agent_id(agent_id: str | None, join_token: str | None) -> str:
    match = _JOIN_TOKEN.fullmatch(join_token or "")
    if join_token and match is None:
        raise ConfigError("join_token is not a join token (hwj1.<agent id>.<secret>)")
    try:
        wanted = uuid.UUID(agent_id or (match[1] if match else ""))
    except ValueError:
        raise ConfigError(f"agent_id {agent_id!r} is not a UUID") from None
    if match and uuid.UUID(match[1]) != wanted:
        raise ConfigError(f"join_token was made for agent {uuid.UUID(match[1])}, not for agent_id {wanted}")
    return str(wanted)


def _pem(text: str | None) -> str | None:
    if text is None:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines[0] != "-----BEGIN CERTIFICATE-----" or lines[-1] != "-----END CERTIFICATE-----":
        raise ConfigError("ca_pem is not a PEM certificate; indent its lines below the option")
    return "\n".join(lines) + "\n"


def _directories(text: str | None) -> tuple[str, ...]:
    if text is None:
        return DEFAULT_HOOKS_DIRS
    found = tuple(part for part in re.split(r"[:\s]+", text) if part)
    relative = [part for part in found if not os.path.isabs(part)]
    if relative:
        raise ConfigError(f"hooks_dirs must be absolute paths: {relative[0]!r}")
    return found


def _search_path(text: str) -> str:
    relative = [part for part in text.split(":") if not os.path.isabs(part)]
    if relative:
        raise ConfigError(f"hook_path must hold absolute paths, separated by colons: {relative[0]!r}")
    return text


def _reboot_command(options: dict[str, str]) -> tuple[str, ...]:
    own = options.get("state_dir", DEFAULT_STATE_DIR) == DEFAULT_STATE_DIR
    command = tuple(shlex.split(options.get("reboot_command", "/sbin/shutdown -r now" if own else "")))
    if command and not os.path.isabs(command[0]):
        raise ConfigError(f"reboot_command must begin with an absolute path: {command[0]!r}")
    return command


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"hook_file_size is a number of bytes, 0 for no limit: {text!r}")
    return int(text)
