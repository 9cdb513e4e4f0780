# SPDX-License-Identifier: Apache-2.0
"""Schemas, agent side: what a guest may say. Unknown fields are refused, never ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from heat_workflow.api.schemas import Name, Strict, Uuid, ValueName, at_most

OUTPUT_MOST = 256 * 1024
OUTPUTS_MOST = 512 * 1024
INVENTORY_MOST = 8 * 1024  # bytes
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Wait = Annotated[float, Field(ge=0, le=50)]
Nonce = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Text64K = Annotated[str, Field(max_length=64 * 1024 + 1024)]


class EnrollIn(Strict):
    credential_sha256: Sha256
    nonce: Nonce
    hw_uuid: Annotated[str, Field(max_length=64)] | None = None
    agent_version: Annotated[str, Field(max_length=64)] | None = None


class CredentialIn(Strict):
    next_sha256: Sha256


class JournalEntry(Strict):
    task_id: Uuid
    attempt: Annotated[int, Field(ge=1, lt=2**31)]
    claim_id: Uuid
    stage: Literal["claimed", "started", "finished"]


def _small(inventory: dict[str, Any]) -> dict[str, Any]:
    size = sum(len(name.encode()) + len(str(value).encode()) for name, value in inventory.items())
    if size > INVENTORY_MOST:
        raise ValueError(f"holds {INVENTORY_MOST} bytes at most, not {size}")
    return inventory


Inventory = Annotated[
    dict[Name, str | int | float | bool | None],
    Field(max_length=64),
    at_most(64),
    pydantic.AfterValidator(_small),
]


class HelloIn(Strict):
    nonce: Nonce
    previous_nonce: Nonce | None = None
    version: Annotated[str, Field(max_length=64)] | None = None
    inventory: Inventory = {}
    journal: Annotated[list[JournalEntry], Field(max_length=1000, fail_fast=True)] = []


class StreamInfo(Strict):
    total_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256
    truncated: bool


class NextClaim(Strict):
    claim_id: Uuid
    wait: Wait = 0


class ReportIn(Strict):
    """The outcome of one attempt."""

    attempt: Annotated[int, Field(ge=0, lt=2**63)]
    claim_id: Uuid
    status: Literal["succeeded", "failed", "timed_out", "cancelled"]
    deploy_status_code: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    deploy_stdout: Text64K = ""
    deploy_stderr: Text64K = ""
    stdout_info: StreamInfo | None = None
    stderr_info: StreamInfo | None = None
    outputs: Annotated[dict[ValueName, Any], Field(max_length=256), at_most(256)] = {}
    reason: Annotated[str, Field(max_length=1024)] | None = None
    claim: NextClaim | None = None


class ListedReport(ReportIn):
    """A report that travels with a claim."""

    task_id: Uuid
    claim: None = None


class ClaimIn(Strict):
    claim_id: Uuid
    wait: Wait = 0
    nonce: Nonce | None = None
    reports: Annotated[list[ListedReport], Field(max_length=100, fail_fast=True)] = []


class HeartbeatIn(Strict):
    attempt: Annotated[int, Field(ge=0, lt=2**63)]
    claim_id: Uuid


class LogChunk(Strict):
    n: Annotated[int, Field(ge=0, lt=2**31)]
    stream: Literal["stdout", "stderr"]
    text: Annotated[str, Field(max_length=64 * 1024)]


class LogIn(Strict):
    attempt: Annotated[int, Field(ge=0, lt=2**63)]
    claim_id: Uuid
    chunks: Annotated[list[LogChunk], Field(min_length=1, max_length=64, fail_fast=True)]
