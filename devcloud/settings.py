# SPDX-License-Identifier: Apache-2.0
"""Settings: the ports, secrets and paths of one devcloud, chosen once and kept in its directory."""

import dataclasses
import json
import os
import random
import secrets
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path

REGION = "RegionOne"
HOST = "127.0.0.1"
# Below Linux's ephemeral range: a client that keeps knocking at a stopped server's port can never be given that port.
PORT_RANGE = range(20000, 32000)
USERS = ("admin", "demo", "heat", "heat-workflow", "heat_domain_admin")


class DevCloudError(Exception):
    """The cloud could not do what was asked; the message says which part and what its log ends with."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that the configuration files and the Keystone seed are made from."""

    directory: Path
    keystone_port: int
    heat_port: int
    api_port: int
    nova_port: int
    demo_project_id: str
    stack_domain_id: str
    encryption_key: str
    passwords: Mapping[str, str]
    guest_host: str = HOST

    @property
    def auth_url(self) -> str:
        """Keystone's URL without a version, as keystonemiddleware wants it."""
        return f"http://{HOST}:{self.keystone_port}"

    @property
    def heat_url(self) -> str:
        """The root of Heat's API; projects are below `/v1/<project id>`."""
        return f"http://{HOST}:{self.heat_port}"

    @property
    def api_url(self) -> str:
        """The root of the tasks API."""
        return f"https://{HOST}:{self.api_port}"

    @property
    def nova_url(self) -> str:
        """The root of the stand-in for Nova and Glance."""
        return f"http://{HOST}:{self.nova_port}"

    @property
    def guest_api_url(self) -> str:
        """The root of the tasks API as guests reach it."""
        return f"https://{self.guest_host}:{self.api_port}"

    @property
    def agents_dir(self) -> Path:
        """The directory of the released agents."""
        return self.directory / "released-agents"

    @property
    def logs(self) -> Path:
        """The directory that holds one log file per process."""
        return self.directory / "logs"

    @property
    def ca_file(self) -> Path:
        """The certificate of the throwaway authority that signed the API's certificate."""
        return self.directory / "ca.pem"

    @property
    def api_certificate(self) -> Path:
        """The API's certificate."""
        return self.directory / "api.pem"

    @property
    def api_key(self) -> Path:
        """The API's private key (0600)."""
        return self.directory / "api.key"

    @property
    def key_ring(self) -> Path:
        """The key ring that the API seals hidden values with (0600)."""
        return self.directory / "heat-workflow.keys"


def load_settings(directory: Path) -> Settings:
    """The settings kept in the directory."""
    fields = json.loads((directory / "settings.json").read_text())
    return Settings(directory=directory, **fields)


def ensure_settings(directory: Path, port_base: int | None, guest_host: str = HOST) -> Settings:
    """The settings of the cloud in the directory, made now if there is none yet.

    A kept directory keeps its ports, because Keystone's catalog names them; another port_base is refused.
    """
    if (directory / "settings.json").exists():
        settings = load_settings(directory)
        if port_base not in (None, settings.keystone_port):
            raise DevCloudError(
                f"{directory} holds a cloud on ports from {settings.keystone_port}: "
                f"leave out the port base {port_base}, or name another directory"
            )
        return settings
    directory.mkdir(parents=True, exist_ok=True)
    settings = _new_settings(directory, port_base, guest_host)
    fields = dataclasses.asdict(settings)
    del fields["directory"]
    write_private(directory / "settings.json", json.dumps(fields, indent=1))
    return settings


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _new_settings(directory: Path, port_base: int | None, guest_host: str) -> Settings:
    ports = list(range(port_base, port_base + 4)) if port_base is not None else _free_ports(4)
    return Settings(
        directory=directory,
        keystone_port=ports[0],
        heat_port=ports[1],
        api_port=ports[2],
        nova_port=ports[3],
        demo_project_id=uuid.uuid4().hex,
        stack_domain_id=uuid.uuid4().hex,
        encryption_key=secrets.token_hex(16),
        passwords={name: secrets.token_urlsafe(16) for name in USERS},
        guest_host=guest_host,
    )


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(PORT_RANGE, len(PORT_RANGE)):
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise DevCloudError(f"no {count} free ports on {HOST} in {PORT_RANGE.start}-{PORT_RANGE.stop - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
