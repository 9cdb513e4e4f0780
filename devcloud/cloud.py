# SPDX-License-Identifier: Apache-2.0
"""DevCloud: a real Keystone, a real Heat and our API on one machine, from start to stop."""

import contextlib
import fcntl
import functools
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from keystoneauth1.session import Session

from devcloud.agents import AgentProcesses
from devcloud.certificates import ensure_certificates
from devcloud.conf_files import write_conf_files
from devcloud.key_ring import ensure_key_ring
from devcloud.people import Person, create_person, log_in
from devcloud.processes import Server, Warden
from devcloud.settings import HOST, DevCloudError, ensure_settings
from heat_workflow.cmd.agent_archive import build_agent
from heat_workflow.releases import Releases


class DevCloud:
    """The cloud of one directory: up inside `with`, down after it. The directory may be used again later.

    `keystone`, `heat`, `api` and `nova` (a stand-in) are the server processes; `agents` the machines that stacks have
    brought up; `releases` the agents that the API serves. Guests reach the API at `guest_host`.
    """

    username = "demo"
    project_name = "demo"

    def __init__(
        self, directory: Path, port_base: int | None = None, agents: bool = True, guest_host: str = HOST
    ) -> None:
        _bypass_proxy()
        self.directory = directory.resolve()
        self._settings = settings = ensure_settings(self.directory, port_base, guest_host)
        settings.logs.mkdir(exist_ok=True)
        ensure_certificates(settings)
        ensure_key_ring(settings)
        self.releases = Releases(settings.agents_dir)
        self.releases.add(build_agent())
        write_conf_files(settings)
        self.auth_url = f"{settings.auth_url}/v3"
        self.heat_url = f"{settings.heat_url}/v1/{settings.demo_project_id}"
        self.api_url = settings.api_url
        self.api_ca_file = settings.ca_file
        self.password = settings.passwords["demo"]
        self.project_id = settings.demo_project_id
        self._warden = Warden(self.directory)
        self.keystone = self._server("keystone", settings.auth_url, "devcloud.keystone_server", str(self.directory))
        self.heat = self._server("heat", settings.heat_url, "devcloud.heat_server", str(self.directory))
        self.nova = self._server("nova", settings.nova_url, "devcloud.nova_stand_in", str(self.directory))
        conf_file = str(self.directory / "heat-workflow.conf")
        self.api = self._server("api", f"{self.api_url}/healthz", "heat_workflow.cmd.api", "--config-file", conf_file)
        self._wants_agents = agents
        self._sessions = {name: log_in(settings, name, settings.passwords[name], name) for name in ("demo", "admin")}
        self.agents = AgentProcesses(self.directory, self._warden, self._sessions["admin"])

    @property
    def servers(self) -> Sequence[Server]:
        """The server processes."""
        return (self.keystone, self.heat, self.api, self.nova)

    def start(self) -> None:
        """Bring everything up; DevCloudError with the end of the log of whatever failed."""
        self._lock_directory()
        try:
            self._warden.open()
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.wait_until_answering()
            if self._wants_agents:
                self.agents.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process of the cloud, hooks that agents left running included; may be repeated."""
        self.agents.stop()
        for session in self._sessions.values():
            # Kept connections would hold the API's orderly end up until it gives up waiting for them.
            session.session.close()
        for server in self.servers:
            server.stop()
        self._warden.close()
        self._lock.close()

    def __enter__(self) -> "DevCloud":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ready(self) -> dict[str, str]:
        """What a client needs to use the cloud, as the `up` command prints it."""
        return {
            "auth_url": self.auth_url,
            "heat_url": self.heat_url,
            "api_url": self.api_url,
            "api_ca_file": str(self.api_ca_file),
            "username": self.username,
            "password": self.password,
            "project_name": self.project_name,
        }

    def session(self) -> Session:
        """The session of the demo user, always the same."""
        return self._sessions["demo"]

    def admin_session(self) -> Session:
        """The session of the administrator in the project admin, always the same."""
        return self._sessions["admin"]

    def create_person(self, project_name: str, roles: Sequence[str]) -> Person:
        """A new user with the roles in the project, which is made if need be."""
        return create_person(self._settings, self.admin_session(), project_name, roles)

    def _server(self, name: str, url: str, module: str, *arguments: str) -> Server:
        argv = [sys.executable, "-m", module, *arguments]
        log_path = self._settings.logs / f"{name}.log"
        return Server(self._warden, name, argv, log_path, functools.partial(_answers, url, self.api_ca_file))

    def _lock_directory(self) -> None:
        self._lock = open(self.directory / "lock", "w")  # noqa: SIM115 -- held until stop
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise DevCloudError(f"{self.directory} is in use by a cloud that is up; name another directory") from None


def _bypass_proxy() -> None:
    # A proxy that the machine needs for the rest of the world cannot reach this cloud; its processes inherit this.
    for name in ("no_proxy", "NO_PROXY"):
        if HOST not in os.environ.get(name, ""):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST, "localhost"]))


def _answers(url: str, ca_file: Path) -> bool:
    context = ssl.create_default_context(cafile=str(ca_file)) if url.startswith("https:") else None
    try:
        with contextlib.closing(urllib.request.urlopen(url, timeout=5, context=context)):
            return True
    except urllib.error.HTTPError as answer:
        # Both Keystone and Heat answer their root with 300 Multiple Choices.
        with answer:
            return answer.code < 500
    except OSError:
        return False
