# SPDX-License-Identifier: Apache-2.0
"""The order from the agent to a shim: everything needed to run one attempt to its report, without the agent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from guest_agent.hooks.contract import Command
from guest_agent.records import Record
from guest_agent.task import Attempt, Output, Task

ORDER_FILE = "order.json"
ALIVE_PIPE = "alive"
CONTROL_PIPE = "control"
CANCEL_FILE = "cancel"
LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True)
class Order:
    """One attempt's command, limits and outputs. ``spool`` is where the report goes."""

    attempt: Attempt
    group: str
    spool: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    stdin: str
    cwd: str
    shell_fallback: bool
    outputs: tuple[Output, ...]
    notes: tuple[str, ...]
    timeout: float | None
    deadline_in: float | None
    started: Record

    @classmethod
    def of(cls, task: Task, command: Command, spool: str, started: Record) -> Order:
        """The order to run ``command`` for ``task``, after ``started`` has been put into the spool."""
        return cls(
            attempt=task.attempt,
            group=task.group,
            spool=spool,
            argv=command.argv,
            env=command.env,
            stdin=command.stdin,
            cwd=command.cwd,
            shell_fallback=command.shell_fallback,
            outputs=task.outputs,
            notes=command.notes,
            timeout=task.timeout,
            deadline_in=task.deadline_in,
            started=started,
        )

    def encode(self) -> bytes:
        """The order as it lies in the run directory."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Order:
        """The order again."""
        fields: dict[str, Any] = json.loads(data)
        fields["attempt"] = Attempt(**fields["attempt"])
        fields["outputs"] = tuple(Output(**item) for item in fields["outputs"])
        fields["argv"] = tuple(fields["argv"])
        fields["notes"] = tuple(fields["notes"])
        return cls(**fields)
