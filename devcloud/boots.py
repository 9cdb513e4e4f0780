# SPDX-License-Identifier: Apache-2.0
"""Boots: what a server of the Nova stand-in finds in its user_data when it boots: the settings of its agent."""

import email
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from devcloud.nova_servers import Servers

ORDER = '{"agent": '  # how the line begins that the agent's part of user_data gives to the program it carries


def find_boot(directory: Path, agent_id: str) -> Mapping[str, str] | None:
    """The agent's settings in the user_data of the server that boots as it; None while there is none."""
    for user_data in Servers(directory).user_data():
        for settings in _orders(user_data):
            if settings["agent_id"] == agent_id:
                return settings
    return None


def _orders(user_data: str) -> Iterator[Mapping[str, str]]:
    for part in email.message_from_string(user_data).walk():
        content = part.get_payload(decode=True)
        for line in content.decode(errors="replace").splitlines() if isinstance(content, bytes) else ():
            if line.startswith(ORDER):
                yield json.loads(line)["agent"]
