# SPDX-License-Identifier: Apache-2.0
"""Nova servers: what the stand-in for Nova remembers of each server, one JSON file per server."""

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BUILD_S = 0.3
ADDRESS = "192.0.2.1"


class Servers:
    """The servers of one cloud directory. They outlive the stand-in's process, as servers outlive nova-api."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "nova"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.Lock()

    def create(self, server_id: str, project_id: str, wanted: dict[str, Any]) -> None:
        """Remember a new server; it is ACTIVE a moment later."""
        self._write(server_id, {**wanted, "project_id": project_id, "built_at": time.time(), "boots": 1})

    def list(self, project_id: str) -> list[dict[str, Any]]:
        """The servers of a project, as Nova shows them."""
        found = [_shown(path.stem, kept) for path, kept in self._all() if kept["project_id"] == project_id]
        return sorted(found, key=lambda server: str(server["created"]))

    def find(self, server_id: str) -> dict[str, Any] | None:
        """The server as Nova shows it."""
        kept = self._read(self._path(server_id))
        return None if kept is None else _shown(server_id, kept)

    def change(self, server_id: str, rebuilt: bool = False, **changes: Any) -> None:
        """Change what is remembered; a rebuilt server boots anew from its user_data."""
        with self._lock:
            kept = self._read(self._path(server_id))
            if kept is None:
                return
            if rebuilt:
                changes |= {"built_at": time.time(), "boots": kept["boots"] + 1, "rebuilding": True}
            self._write(server_id, {**kept, **changes})

    def delete(self, server_id: str) -> bool:
        """Forget the server; False if there is none."""
        try:
            self._path(server_id).unlink()
        except FileNotFoundError:
            return False
        return True

    def user_data(self) -> Iterator[str]:
        """What each server was last booted with."""
        for _, kept in self._all():
            yield base64.b64decode(kept.get("user_data") or "").decode(errors="replace")

    def _all(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in self._directory.glob("*.json"):
            kept = self._read(path)
            if kept is not None:
                yield path, kept

    def _path(self, server_id: str) -> Path:
        return self._directory / f"{server_id.replace('/', '_')}.json"

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return kept

    def _write(self, server_id: str, kept: dict[str, Any]) -> None:
        path = self._path(server_id)
        fresh = path.with_suffix(f".{threading.get_ident()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file)
        fresh.replace(path)


def _shown(server_id: str, kept: dict[str, Any]) -> dict[str, Any]:
    built = time.time() - kept["built_at"] >= BUILD_S
    busy = "REBUILD" if kept.get("rebuilding") else "BUILD"
    at_rest = "SUSPENDED" if kept.get("suspended") else "ACTIVE"
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(kept["built_at"]))
    return {
        "id": server_id,
        "name": kept["name"],
        "status": at_rest if built else busy,
        "tenant_id": kept["project_id"],
        "image": {"id": kept.get("imageRef", "")},
        "flavor": {"original_name": kept["flavorRef"], "ram": 2048, "vcpus": 1, "disk": 20, "extra_specs": {}},
        "metadata": kept.get("metadata", {}),
        "addresses": {"net": [{"addr": ADDRESS, "version": 4, "OS-EXT-IPS:type": "fixed"}]},
        "accessIPv4": "",
        "accessIPv6": "",
        "key_name": kept.get("key_name"),
        "created": created,
        "updated": created,
        "tags": [],
        "links": [],
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{server_id[:8]}",
        "OS-EXT-STS:task_state": None,
    }
