# SPDX-License-Identifier: Apache-2.0
"""Machine: the directory and the process of one agent, as if a server had booted with its join data."""

import configparser
import dataclasses
import io
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from devcloud.processes import Process, Warden
from devcloud.registry import Registered
from devcloud.settings import write_private
from guest_agent.hooks.contract import PATH


@dataclasses.dataclass(frozen=True)
class Machine:
    """A running agent, with the names that a caller may know it by."""

    names: frozenset[str]
    process: Process
    join_expires_at: str | None
    join_token: str | None


def boot(warden: Warden, directory: Path, logs: Path, agent: Registered, join: Mapping[str, str] | None) -> Machine:
    """Start the agent; without join data it goes on with the configuration that its directory holds."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    conf_file = directory / "agent.conf"
    if join is not None:
        write_private(conf_file, _agent_conf(directory, join))
    # Existing heat-config hooks read this; on one machine each agent needs its own.
    environment = {"HEAT_SHELL_CONFIG": str(directory / "heat-config.json")}
    argv = [sys.executable, "-m", "guest_agent", "run", "--config", str(conf_file)]
    log_path = logs / f"agent-{re.sub(r'[^A-Za-z0-9._-]', '_', agent.name)}.log"
    process = Process(warden, f"agent of {agent.name}", argv, log_path, environment)
    process.start()
    names = {agent.id, agent.name, agent.server, agent.heat["resource"] if agent.heat else None}
    return Machine(
        frozenset(name for name in names if name), process, agent.join_expires_at, join["join_token"] if join else None
    )


def _agent_conf(directory: Path, join: Mapping[str, str]) -> str:
    parser = configparser.RawConfigParser()
    parser["agent"] = {
        "api_url": join["api_url"],
        "agent_id": join["agent_id"],
        "join_token": join["join_token"],
        "ca_pem": (join.get("ca_pem") or "").strip(),
        "state_dir": os.fspath(directory / "state"),
        # As if the image had brought them: the tools of this checkout's environment, and hooks that a test adds.
        "hook_path": f"{Path(sys.executable).parent}:{PATH}",
        "hooks_dirs": f"{directory.parents[1] / 'hooks'}:/usr/libexec/heat-config/hooks:/var/lib/heat-config/hooks",
    }
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
