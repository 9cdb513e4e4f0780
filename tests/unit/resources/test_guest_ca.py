# SPDX-License-Identifier: Apache-2.0
"""The CA for guests: what they would refuse is said in heat-engine's log, once (F53)."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from heat_workflow.client_plugin import GUEST_GROUP, HeatWorkflowClientPlugin


@pytest.fixture
def ca_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ca.pem"
    command = f"openssl req -x509 -newkey rsa:1024 -nodes -keyout {tmp_path}/key.pem -out {path} -subj /CN=private"
    subprocess.run(command.split(), check=True, capture_output=True)
    cfg.CONF.set_override("guest_ca_file", str(path), group=GUEST_GROUP)
    yield path
    cfg.CONF.clear_override("guest_ca_file", group=GUEST_GROUP)


def test_f53_a_ca_that_guests_refuse_is_said_once(ca_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    plugin = HeatWorkflowClientPlugin.__new__(HeatWorkflowClientPlugin)
    for _ in range(2):
        assert plugin.guest_ca_pem() == ca_file.read_text()
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "1024 bits" in line] == [
        f"guests may refuse the tasks API: guest_ca_file {ca_file}: CN=private: "
        "its key has 1024 bits, guests ask for 2048"
    ]
