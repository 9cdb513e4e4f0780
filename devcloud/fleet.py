# SPDX-License-Identifier: Apache-2.0
"""Fleet: many agents on one machine at the API of a cloud that is up, each with a state directory of its own."""

import contextlib
import dataclasses
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devcloud.machine import Machine, boot
from devcloud.people import log_in
from devcloud.processes import Warden
from devcloud.registry import GUEST_TASKS, Registered
from devcloud.settings import load_settings

HANDS = 4


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The running agents: ids by server name, and their processes."""

    servers: dict[str, str]
    machines: list[Machine]


@contextlib.contextmanager
def fleet(cloud: Path, count: int, name: str = "fleet") -> Iterator[Fleet]:
    """So many agents of the demo project, for servers ``NAME-0``, ``NAME-1``, ..., all with the capability ``NAME``.

    ``cloud`` is the directory of a devcloud that is up. In the end the agents are ended and revoked, and what they kept
    is removed.
    """
    settings = load_settings(cloud)
    session = log_in(settings, "demo", settings.passwords["demo"], "demo")
    ca_pem = settings.ca_file.read_text()
    with tempfile.TemporaryDirectory(prefix="devcloud-fleet-") as made, ThreadPoolExecutor(HANDS) as hands:
        directory = Path(made)
        warden = Warden(directory)
        warden.open()

        def begin(number: int) -> tuple[str, Machine]:
            agent_id, server = str(uuid.uuid4()), f"{name}-{number}"
            body = {"name": server, "server": server, "capabilities": [name]}
            answer = session.put(f"/v1/agents/{agent_id}", json=body, endpoint_filter=GUEST_TASKS).json()
            join = {"api_url": settings.api_url, "agent_id": agent_id, "join_token": answer["join_token"]}
            agent = Registered(agent_id, server, "pending", server, None, None)
            return agent_id, boot(warden, directory / agent_id, directory, agent, {**join, "ca_pem": ca_pem})

        ids: list[str] = []
        try:
            started = list(hands.map(begin, range(count)))
            ids = [agent_id for agent_id, _ in started]
            machines = [machine for _, machine in started]
            yield Fleet({f"{name}-{number}": agent_id for number, agent_id in enumerate(ids)}, machines)
        finally:
            warden.close()
            for agent_id in ids:
                session.delete(f"/v1/agents/{agent_id}", endpoint_filter=GUEST_TASKS, raise_exc=False)
            session.session.close()
