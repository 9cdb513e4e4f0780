# SPDX-License-Identifier: Apache-2.0
"""The order from the agent to a shim: everything needed to run one attempt to its report, without the agent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from guest_agent.hooks.contract import Command
from guest_agent.records import Record
from guest_agent.task import Attempt, Output, Task
from guest_agent.user import User, find_user

ORDER_FILE = "order.json"
ALIVE_PIPE = "alive"
CONTROL_PIPE = "control"
CANCEL_FILE = "cancel"
LIMIT = 64 * 1024 * 1024
REBOOT_STATUS = 194
BOOTS_MOST = 10


@dataclass(frozen=True)
class Order:
    """One attempt's command, limits and outputs. ``spool`` is where the report goes; ``boots`` counts its reboots."""

    attempt: Attempt
    hook: str
    spool: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    stdin: str
    cwd: str
    shell_fallback: bool
    answers: bool
    outputs: tuple[Output, ...]
    notes: tuple[str, ...]
    timeout: float | None
    deadline_in: float | None
    started: Record
    on_interrupt: str
    user: User | None
    boots: int = 0
    file_size: int = 0
    hint: str = ""

    @classmethod
    def of(cls, task: Task, command: Command, spool: str, started: Record, file_size: int = 0) -> Order:
        """The order to run ``command`` for ``task``, after ``started`` has been put into the spool."""
        return cls(
            attempt=task.attempt,
            hook=command.hook,
            spool=spool,
            argv=command.argv,
            env=command.env,
            stdin=command.stdin,
            cwd=command.cwd,
            shell_fallback=command.shell_fallback,
            answers=command.answers,
            outputs=task.outputs,
            notes=command.notes,
            hint=command.hint,
            timeout=task.timeout,
            deadline_in=task.deadline_in,
            started=started,
            file_size=file_size,
            on_interrupt=task.on_interrupt,
            user=find_user(task.run_as) if task.run_as else None,
        )

    def again(self, boot_id: str, boots: int, *, resume: bool) -> Order:
        """The order to run the same attempt once more after ``boots`` reboots; with ``resume`` the hook is told to go
        on."""
        env = {**self.env, "HW_BOOT": str(boots), **({"HW_RESUME": "1"} if resume else {})}
        return replace(self, env=env, boots=boots, started={**self.started, "boot_id": boot_id, "boots": boots})

    def encode(self) -> bytes:
        """The order as it lies in the run directory."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Order:
        """The order again."""
        fields: dict[str, Any] = json.loads(data)
        fields["attempt"] = Attempt(**fields["attempt"])
        fields["outputs"] = tuple(Output(**item) for item in fields["outputs"])
        fields["user"] = User(**fields["user"]) if fields["user"] else None
        fields["argv"] = tuple(fields["argv"])
        fields["notes"] = tuple(fields["notes"])
        return cls(**fields)
