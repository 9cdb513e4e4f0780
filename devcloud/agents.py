# SPDX-License-Identifier: Apache-2.0
"""Agents: play the machines, by starting one local agent process for each agent that a stack registers."""

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keystoneauth1 import exceptions
from keystoneauth1.session import Session

from devcloud.boots import find_boot
from devcloud.machine import Machine, boot
from devcloud.processes import Process, Warden
from devcloud.registry import Registered, find_join_data, list_registered
from devcloud.settings import DevCloudError

LOG = logging.getLogger(__name__)

POLL_S = 0.2
HANDS = 4


class AgentProcesses:
    """Starts an agent when Heat has its join data, ends it when the API has let it go.

    An agent that somebody has stopped or killed stays down until it is started through `process`.
    """

    def __init__(self, directory: Path, warden: Warden, admin: Session) -> None:
        self._directory = directory
        self._warden = warden
        self._admin = admin
        self._machines: dict[str, Machine] = {}
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._off = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="devcloud-agents", daemon=True)
        self._hands = ThreadPoolExecutor(HANDS, thread_name_prefix="devcloud-agent")

    def start(self) -> None:
        """Begin to watch the API."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch and every agent; returns when they are gone."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._hands.shutdown(cancel_futures=True)
        machines = tuple(self._machines.values())
        with ThreadPoolExecutor(max(1, len(machines))) as hands:
            for done in [hands.submit(machine.process.stop) for machine in machines]:
                done.result()

    @contextlib.contextmanager
    def switched_off(self) -> Iterator[None]:
        """Until the end of the block no machine boots; those that would have do so then."""
        self._off.set()
        try:
            yield
        finally:
            self._off.clear()

    def process(self, name: str) -> Process:
        """The agent of the server with that name, the newest if there are several; an agent's id is a name too."""
        with self._lock:
            machines = list(self._machines.values())
        for machine in reversed(machines):
            if name in machine.names:
                return machine.process
        known = sorted(machine.process.name for machine in machines)
        raise DevCloudError(f"no agent of a server named {name} was started; there are: {', '.join(known) or 'none'}")

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                registered = {agent.id: agent for agent in list_registered(self._admin) if agent.state != "revoked"}
            except exceptions.ClientException as error:
                # A server that is down or still starting is part of what is being tested.
                LOG.debug("agents were not listed: %s", error)
                continue
            self._follow(registered)

    def _follow(self, registered: Mapping[str, Registered]) -> None:
        with self._lock:
            gone = self._machines.keys() - registered.keys() - self._busy
            wanted = [agent for agent in registered.values() if agent.id not in self._busy and self._should_boot(agent)]
            self._busy |= gone | {agent.id for agent in wanted}
        for agent_id in gone:
            self._hands.submit(self._end, agent_id)
        for agent in wanted:
            self._hands.submit(self._boot, agent)

    def _should_boot(self, agent: Registered) -> bool:
        if self._off.is_set():
            return False
        machine = self._machines.get(agent.id)
        if agent.state == "pending" and agent.heat is not None:
            # A new expiry means a new join token: the machine boots again with it.
            return machine is None or machine.join_expires_at != agent.join_expires_at
        # A machine of an earlier run of this cloud, whose directory was kept.
        return machine is None and self._machine_directory(agent.id).exists()

    def _boot(self, agent: Registered) -> None:
        with self._released(agent.id):
            booted = find_boot(self._directory, agent.id) if agent.state == "pending" else None
            join = booted or (find_join_data(self._admin, agent) if agent.state == "pending" else None)
            if agent.state == "pending" and join is None:
                return
            previous = self._machines.get(agent.id)
            if previous is not None:
                if booted and booted["join_token"] == previous.join_token:
                    return  # Nova has not been asked for the rebuild yet
                previous.process.stop()
            if booted:
                # The disk is a new one.
                shutil.rmtree(self._machine_directory(agent.id), ignore_errors=True)
            machine = boot(self._warden, self._machine_directory(agent.id), self._directory / "logs", agent, join)
            with self._lock:
                self._machines[agent.id] = machine
            LOG.info("agent %s of server %s was started, process %d", agent.id, agent.name, machine.process.pid)

    def _end(self, agent_id: str) -> None:
        with self._released(agent_id):
            self._machines[agent_id].process.stop()
            with self._lock:
                del self._machines[agent_id]
            LOG.info("agent %s was ended, the API does not know it any more", agent_id)

    def _machine_directory(self, agent_id: str) -> Path:
        return self._directory / "agents" / agent_id

    @contextlib.contextmanager
    def _released(self, agent_id: str) -> Iterator[None]:
        try:
            yield
        except exceptions.ClientException as error:
            LOG.debug("agent %s has to wait: %s", agent_id, error)
        except Exception:
            LOG.exception("agent %s was neither started nor ended", agent_id)
        finally:
            with self._lock:
                self._busy.discard(agent_id)
