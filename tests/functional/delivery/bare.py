# SPDX-License-Identifier: Apache-2.0
"""Harness: a machine without systemd that the shell-script part of user_data makes an agent's, all in one directory."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

from heat_workflow.resources.user_data import Layout, agent_part
from heat_workflow.shapes import Join
from tests.harness.machine import end_process, processes_of, wait_for

PATIENCE = 60.0


class BareGuest:
    """One such machine. Its processes are known by a mark in their environment."""

    def __init__(self, directory: Path) -> None:
        self.python = sys.executable
        self.home = directory / "opt"
        self.console = directory / "console"
        self.console.touch()
        self.conf = directory / "etc" / "agent.conf"
        self.state = directory / "state"
        self.mark = uuid.uuid4().hex
        self.layout = Layout(
            home=str(self.home),
            conf=str(self.conf),
            state_dir=str(self.state),
            console=str(self.console),
            log=str(directory / "log"),
            units="",  # else a systemd that runs here would be handed the unit
            per_boot=str(directory / "per-boot"),
        )

    def boot(self, join: Join, digest: str, **environment: str) -> None:
        """What cloud-init does with the part the first time."""
        part = agent_part(join, digest, self.layout)
        bin_ = self.console.parent / "bin"
        bin_.mkdir(exist_ok=True)
        python = bin_ / "python3"
        python.unlink(missing_ok=True)
        python.symlink_to(self.python)
        path = f"{bin_}:{os.environ['PATH']}"
        subprocess.run(
            ["sh"], input=part, text=True, check=True, env={"PATH": path, "MARK": self.mark, **environment}, timeout=60
        )

    def boot_again(self) -> None:
        """What cloud-init does at every boot after the first."""
        (script,) = Path(self.layout.per_boot).iterdir()
        subprocess.run([str(script)], check=True, env={"PATH": os.environ["PATH"], "MARK": self.mark}, timeout=60)

    def lines(self) -> list[str]:
        return [line.partition("heat-workflow: ")[2] for line in self.console.read_text().splitlines() if line.strip()]

    def says(self, words: str) -> None:
        """Wait for a line with these words."""
        wait_for(lambda: any(words in line for line in self.lines()), PATIENCE)

    def agents(self) -> list[int]:
        """The agent processes, found by their command line."""
        found = []
        for pid in processes_of(f"MARK={self.mark}"):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"run" in line:
                found.append(pid)
        return found

    def end(self) -> None:
        for _ in range(3):  # the loop first: it would start another agent
            for pid in processes_of(f"MARK={self.mark}"):
                end_process(pid)
        for run in (self.state / "run").glob("*"):
            for pid in processes_of(f"HW_RUN={run.name}"):
                end_process(pid)


def is_main(pid: int) -> bool:
    """Whether it is an agent and not its zygote, which is a fork of it."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return b"pyz" not in Path(f"/proc/{parent}/cmdline").read_bytes()
