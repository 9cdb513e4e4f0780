# SPDX-License-Identifier: Apache-2.0
"""A hook that ends because its machine goes down has no outcome yet (G11, F14); what is left to say is said after."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.functional.agent.conftest import Add, Boot
from tests.harness.machine import wait_for


def test_f14_a_hook_that_the_shutdown_ended_is_not_reported_as_failed_by_a_signal(
    boot: Boot, add: Add, finished: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\ntouch {asked}\necho stopping\n")
    systemctl.chmod(0o755)
    guest = boot()
    guest.kill()
    guest.start(PATH=f"{systemctl.parent}:{os.environ['PATH']}")
    task = add("#!/bin/sh\nkill -TERM $$\n")
    wait_for(asked.exists)
    guest.kill()
    guest.start()
    assert "hook lost" in finished(task)["status_reason"], "the same boot here; after another it would be interrupted"
