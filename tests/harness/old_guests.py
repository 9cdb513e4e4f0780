# SPDX-License-Identifier: Apache-2.0
"""Old guests: servers as they were before, with a stand-in for os-collect-config and heat-config's script hook."""

from __future__ import annotations

import os
import pathlib
import subprocess
import threading
from types import TracebackType
from typing import Any

from heatclient import exc

from devcloud.boots import ORDER

POLL_S = 0.2


class OldGuests:
    """While entered: runs on each server what Heat's metadata asks for, and signals its end to Heat.

    The agent's installer is not run, for it would install into this machine: its text is kept in ``installers``.
    """

    def __init__(self, heat: Any, servers: list[str], room: pathlib.Path) -> None:
        self._heat = heat
        self._servers = servers
        self._room = room
        self._done: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="old-guests", daemon=True)
        self.installers: dict[str, str] = {}

    def __enter__(self) -> OldGuests:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._over.wait(POLL_S):
            for server in list(self._servers):
                for config in self._heat.software_deployments.metadata(server_id=server):
                    if config["id"] not in self._done:
                        self._done.add(config["id"])
                        self._run(server, config)

    def _run(self, server: str, config: dict[str, Any]) -> None:
        inputs = {each["name"]: str(each.get("value") or "") for each in config["inputs"]}
        said: dict[str, Any] = {"deploy_status_code": 0}
        if ORDER in config["config"]:
            self.installers[server] = config["config"]
        else:
            said |= self._script(config, inputs)
        _, _, stack_id = inputs["deploy_stack_id"].rpartition("/")
        try:
            self._heat.resources.signal(stack_id, inputs["deploy_resource_name"], data=said)
        except exc.HTTPNotFound:
            return  # it was replaced meanwhile

    def _script(self, config: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
        program, outputs = self._room / config["id"], self._room / f"out-{config['id']}"
        program.write_text(config["config"])
        program.chmod(0o700)
        environment = {**os.environ, **inputs, "heat_outputs_path": str(outputs)}
        done = subprocess.run([str(program)], env=environment, capture_output=True, text=True)
        files = {each["name"]: outputs.with_name(f"{outputs.name}.{each['name']}") for each in config["outputs"]}
        written = {name: path.read_text() for name, path in files.items() if path.exists()}
        return {"deploy_stdout": done.stdout, "deploy_status_code": done.returncode, **written}
