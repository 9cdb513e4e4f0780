# SPDX-License-Identifier: Apache-2.0
"""Keys: hidden values rest encrypted, survive a rotation, and cannot be read in another row's place."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heat_workflow import errors
from heat_workflow.store.keyring import KeyRing
from tests.harness.callers import Operator
from tests.harness.servers import ApiProcess


def manage(api: ApiProcess, *command: str) -> str:
    argv = [sys.executable, "-m", "heat_workflow.cmd.manage", "--config-file", str(api.conf), *command]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def own_api(tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite")
    process.start()
    yield process
    process.stop()


def test_s24_a_hidden_value_is_not_in_the_database_files(own_api: ApiProcess) -> None:
    operator = Operator(own_api.url)
    operator.task(operator.workflow(), server="s", input_values={"pw": "canary-7f3c"}, hidden_inputs=["pw"])
    files = b"".join(path.read_bytes() for path in own_api.directory.glob("store.sqlite*"))
    assert b"canary-7f3c" not in files
    assert b"hidden_inputs" in files


def test_a_rotated_key_seals_anew_and_every_value_stays_readable(own_api: ApiProcess) -> None:
    operator = Operator(own_api.url)
    operator.task(operator.workflow(), server="s", input_values={"pw": "canary"}, hidden_inputs=["pw"])
    assert "1 hidden values can be read" in manage(own_api, "key", "check")
    assert "2 keys" in manage(own_api, "key", "add")
    own_api.stop()
    assert manage(own_api, "key", "rotate").startswith("1 hidden values are sealed with key k2-")
    ring_file = own_api.directory / "keys.json"
    ring = json.loads(ring_file.read_text())
    ring["keys"] = {ring["primary"]: ring["keys"][ring["primary"]]}
    ring_file.write_text(json.dumps(ring))
    own_api.start()
    assert operator.agent(server="s").take()["input_values"] == {"pw": "canary"}


def test_s60_a_value_moved_to_another_row_does_not_decrypt(own_api: ApiProcess) -> None:
    operator = Operator(own_api.url)
    for server in ("a", "b"):
        values = {"pw": f"canary-{server}"}
        operator.task(operator.workflow(), server=server, input_values=values, hidden_inputs=["pw"])
    connection = sqlite3.connect(own_api.directory / "store.sqlite")
    (first, one), (_, _) = connection.execute("SELECT task_id, sealed FROM secret").fetchall()
    connection.execute("UPDATE secret SET sealed = ? WHERE task_id != ?", (one, first))
    connection.commit()
    connection.close()
    answers = {operator.agent(server=server).claim(wait=1).status_code for server in ("a", "b")}
    assert answers == {200, 503}


def test_a_ring_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    KeyRing().with_new_key().save(str(path))
    path.chmod(0o640)
    with pytest.raises(errors.Invalid, match="chmod 600"):
        KeyRing.load(str(path))


def test_without_a_ring_hidden_values_are_refused_in_words() -> None:
    with pytest.raises(errors.Invalid, match="heat-workflow-manage key add"):
        KeyRing().seal("row", "text")
