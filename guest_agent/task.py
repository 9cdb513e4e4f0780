# SPDX-License-Identifier: Apache-2.0
"""A claimed task as the agent sees it: pure facts, read from the wire."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from guest_agent.errors import AgentError
from guest_agent.untrusted import as_seconds

_ATTEMPTS = range(1, 2**63)
_NAME = re.compile(r"([0-9a-f]{32})\.([0-9]{1,19})\.([0-9a-f]{32})")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task under one claim: what a lease is held for."""

    task_id: str
    attempt: int
    claim_id: str

    @property
    def name(self) -> str:
        """The stem of its records in the spool: it alone identifies the attempt, even if the record is damaged."""
        return f"{self.task_id.replace('-', '')}.{self.attempt}.{self.claim_id.replace('-', '')}"

    @property
    def run_name(self) -> str:
        """The name of its run directory; the hook sees it, so it does not give the claim away."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:32]

    @classmethod
    def from_name(cls, name: str) -> Attempt | None:
        """The attempt whose ``name`` this is, or None."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(str(uuid.UUID(match[1])), int(match[2]), str(uuid.UUID(match[3])))

    def __str__(self) -> str:
        return f"task {self.task_id} attempt {self.attempt}"


@dataclass(frozen=True)
class Input:
    """One input with its value. ``type`` is the declared one; what nobody declared is a String.

    An ``erased`` one was hidden, and its value forgotten when the task ended that is undone now.
    """

    name: str
    type: str
    value: Any = field(repr=False)
    hidden: bool = False
    erased: bool = False


@dataclass(frozen=True)
class Output:
    """One declared output. A value for one with ``error_output`` means that the task failed."""

    name: str
    error_output: bool = False
    hidden: bool = False
    type: str = "String"


@dataclass(frozen=True)
class Task:
    """What is to be done: the definition with its inputs resolved."""

    attempt: Attempt
    workflow_id: str
    name: str
    action: str
    group: str
    config: Any = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    inputs: tuple[Input, ...] = field(repr=False)
    outputs: tuple[Output, ...] = ()
    server: str = ""
    stack_id: str = ""
    resource: str = ""
    timeout: float | None = None
    deadline_in: float | None = None
    run_as: str = ""
    on_interrupt: str = "fail"
    environment_inputs: frozenset[str] = frozenset()

    @property
    def given(self) -> tuple[Input, ...]:
        """The inputs that have a value. A tool that asks for another shall miss it, not find nothing in it."""
        return tuple(item for item in self.inputs if not item.erased)


def read_attempt(wire: dict[str, Any]) -> Attempt:
    """Which attempt the API handed out; AgentError when even that cannot be read."""
    try:
        number = wire["attempt"]
        if type(number) is not int or number not in _ATTEMPTS:
            raise ValueError(number)
        return Attempt(str(uuid.UUID(wire["id"])), number, str(uuid.UUID(wire["claim_id"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AgentError(f"the API handed out a task without a readable id: {type(error).__name__}") from error


def read_task(wire: dict[str, Any]) -> Task:
    """The claimed task; AgentError names the field that cannot be read."""
    definition = wire.get("definition")
    if not isinstance(definition, dict):
        raise AgentError("definition is missing")
    hidden_outputs = set(wire.get("hidden_outputs") or [])
    heat = wire.get("heat") or {}
    return Task(
        attempt=read_attempt(wire),
        workflow_id=str(wire.get("workflow_id") or ""),
        name=str(wire.get("name") or ""),
        action=str(wire.get("action") or ""),
        group=str(definition.get("group") or ""),
        config=definition.get("config"),
        options=dict(definition.get("options") or {}),
        inputs=_marked(
            str(wire.get("action") or ""),
            resolve_inputs(
                definition.get("inputs") or [],
                wire.get("input_values") or {},
                frozenset(wire.get("hidden_inputs") or []),
            ),
        ),
        outputs=tuple(
            Output(
                item["name"],
                bool(item.get("error_output")),
                item["name"] in hidden_outputs,
                str(item.get("type") or "String"),
            )
            for item in definition.get("outputs") or []
        ),
        server=str(wire.get("server") or ""),
        stack_id=str(heat.get("stack_id") or ""),
        resource=str(heat.get("resource") or wire.get("name") or ""),
        timeout=_seconds(wire, "timeout"),
        deadline_in=_seconds(wire, "deadline_in"),
        run_as=str(wire.get("run_as") or ""),
        on_interrupt=str(wire.get("on_interrupt") or "fail"),
        environment_inputs=frozenset(wire.get("environment_inputs") or []),
    )


def resolve_inputs(declared: list[dict[str, Any]], values: dict[str, Any], hidden: frozenset[str]) -> tuple[Input, ...]:
    """Declared defaults overlaid by the values given; a value nobody declared is a String input, as in Heat."""
    found: dict[str, Input] = {}
    for item in declared:
        name = str(item["name"])
        value = values.get(name, item.get("value", item.get("default")))
        found[name] = Input(name, str(item.get("type") or "String"), value, name in hidden)
    for name, value in values.items():
        if name not in found:
            found[name] = Input(name, "String", value, name in hidden)
    return tuple(found.values())


def _marked(action: str, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    """The inputs, those of an undo that were hidden and are null by now marked as erased."""
    if action != "UNDO":
        return inputs
    return tuple(replace(item, erased=item.hidden and item.value is None) for item in inputs)


def _seconds(wire: dict[str, Any], name: str) -> float | None:
    """The seconds left, 0 for a time that is over."""
    value = wire.get(name)
    if value is None:
        return None
    seconds = as_seconds(value, -1.0, 0.0, float("inf"))
    if seconds < 0:
        raise AgentError(f"{name} is no number of seconds")
    return seconds
