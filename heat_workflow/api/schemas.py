# SPDX-License-Identifier: Apache-2.0
"""Schemas, operator side: what may be asked. Unknown fields are refused, never ignored."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from heat_workflow import errors, model
from heat_workflow.taskqueue.agents import JOIN_TTL_MOST, NewAgent

# What a reader of a name cannot see: control characters, line and direction marks, blanks without width.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
_HAS_UNSEEN = re.compile(f"[{_UNSEEN}]")
YEAR = 366 * 86400.0


def _plain(name: str) -> str:
    if _HAS_UNSEEN.search(name):
        raise errors.Malformed(f"the name {name[:64]!a} holds a control character or one that cannot be seen")
    return name


def _path_safe(name: str) -> str:
    if name in (".", "..") or "/" in name or "\\" in name:
        raise ValueError("may not be . or .. nor hold a slash: it names a file in the guest")
    return _plain(name)


def _pattern(text: str) -> Any:
    """For the contract document, which cannot see into validators."""
    return Field(json_schema_extra={"pattern": text})


_PLAIN = _pattern(f"^[^{_UNSEEN}]+$")
_FILE = _pattern(rf"^(?!\.{{1,2}}$)[^/\\{_UNSEEN}]+$")
Name = Annotated[str, Field(min_length=1, max_length=255), pydantic.AfterValidator(_plain), _PLAIN]
TaskName = Annotated[str, Field(min_length=1, max_length=511), pydantic.AfterValidator(_plain), _PLAIN]
ValueName = Annotated[str, Field(min_length=1, max_length=255), pydantic.AfterValidator(_path_safe), _FILE]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
Group = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_.:-]+$")]
Seconds = Annotated[float, Field(gt=0, le=YEAR)]


class Strict(pydantic.BaseModel):
    """A body: no unknown fields, no conversions between types."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class ValueSchema(Strict):
    """One declared input or output, as Heat's software configs declare them."""

    name: ValueName
    type: Literal["String", "Number", "CommaDelimitedList", "Json", "Boolean"] = "String"
    description: str | None = None
    default: Any = None
    replace_on_change: bool = False
    error_output: bool = False
    value: Any = None


class Definition(Strict):
    """What a SoftwareConfig holds."""

    group: Group
    config: str | dict[str, Any] | list[Any] = ""
    options: dict[str, Any] = {}
    inputs: Annotated[list[ValueSchema], Field(max_length=256)] = []
    outputs: Annotated[list[ValueSchema], Field(max_length=256)] = []

    @pydantic.model_validator(mode="after")
    def _names_once(self) -> Definition:
        for kind in (self.inputs, self.outputs):
            names = [value.name for value in kind]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{twice} is declared twice")
        return self


class Edge(Strict):
    """One HOT dependency, told for the graph and for people: never holds a task back."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, populate_by_name=True)
    source: Name = Field(alias="from")
    how: Annotated[str, Field(max_length=1024)]


class HeatOrigin(Strict):
    """The Heat resource a task or an agent belongs to."""

    stack_id: Annotated[str, Field(max_length=64)]
    stack_name: Annotated[str, Field(max_length=255)] | None = None
    resource: Annotated[str, Field(max_length=511)]
    action: Annotated[str, Field(max_length=255)] | None = None
    edges: Annotated[list[Edge], Field(max_length=1000)] = []
    digest: Annotated[str, Field(max_length=64)] | None = None  # by which the owner knows equal work again


class Batch(Strict):
    """How a fan-out rolls over its servers."""

    max_size: Annotated[int, Field(ge=1, le=10_000)] = 1
    pause: Annotated[float, Field(ge=0, le=86400)] = 0
    max_errors: Annotated[int, Field(ge=0, le=10_000)] = 0


class WorkflowRef(Strict):
    """The workflow that a PUT of a task may bring into being."""

    id: Uuid
    name: Name


class TaskIn(Strict):
    """A task as its author asks for it."""

    id: Uuid | None = None
    name: TaskName
    definition: Definition
    input_values: Annotated[dict[ValueName, Any], Field(max_length=256)] = {}
    hidden_inputs: Annotated[list[ValueName], Field(max_length=256)] = []
    hidden_outputs: Annotated[list[ValueName], Field(max_length=256)] = []
    environment_inputs: Annotated[list[ValueName], Field(max_length=256)] = []
    requires: Annotated[list[TaskName], Field(max_length=1000)] = []
    heat: HeatOrigin | None = None
    capabilities: Annotated[list[Name], Field(max_length=32)] = []
    server: Name | None = None
    servers: Annotated[dict[Name, Name], Field(min_length=1, max_length=10_000)] | None = None
    batch: Batch | None = None
    action: Name = "CREATE"
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    timeout: Seconds | None = None
    pickup_timeout: Seconds | None = None
    deadline: Seconds | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 1
    retry_delay: Annotated[float, Field(ge=0, le=86400)] = 0
    run_as: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = None
    on_interrupt: Literal["fail", "rerun", "resume"] = "fail"
    undo: Definition | None = None
    concurrency_key: Name | None = None

    @pydantic.model_validator(mode="after")
    def _one_target(self) -> TaskIn:
        if self.server is not None and self.servers is not None:
            raise ValueError("give server or servers, not both")
        if self.batch is not None and self.servers is None:
            raise ValueError("batch rolls over servers; give servers")
        return self

    def new_task(self) -> model.NewTask:
        own = {"id", "name", "definition", "requires", "capabilities", "server", "servers", "action", "priority"}
        own |= {"max_attempts", "deadline", "concurrency_key", "workflow"}
        if not self.environment_inputs:
            own |= {"environment_inputs"}  # so that a task from before there was this field is the same request again
        spec = self.model_dump(by_alias=True, exclude=own)
        spec["max_attempts"] = self.max_attempts
        return model.NewTask(
            id=None if self.id is None else model.TaskId(self.id),
            name=self.name,
            definition=self.definition.model_dump(exclude_unset=True) | _definition_defaults(self.definition),
            spec=spec,
            requires=self.requires,
            capabilities=self.capabilities,
            server=self.server,
            servers=self.servers,
            action=self.action,
            priority=self.priority,
            max_attempts=self.max_attempts,
            deadline=self.deadline,
            concurrency_key=self.concurrency_key,
        )


def _definition_defaults(definition: Definition) -> dict[str, Any]:
    """The five parts always, each declared value as it was sent: a default that was not given stays absent."""
    return {
        "group": definition.group,
        "config": definition.config,
        "options": definition.options,
        "inputs": [value.model_dump(exclude_unset=True) for value in definition.inputs],
        "outputs": [value.model_dump(exclude_unset=True) for value in definition.outputs],
    }


class TaskPut(TaskIn):
    """A task under its caller's id; may bring its workflow into being."""

    workflow: WorkflowRef | None = None


class TaskPatch(Strict):
    """What may be changed of a task that nobody has claimed; what is left out stays."""

    input_values: Annotated[dict[ValueName, Any], Field(max_length=256)] = {}
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    timeout: Seconds | None = None
    pickup_timeout: Seconds | None = None
    deadline: Seconds | None = None
    retry_delay: Annotated[float, Field(ge=0, le=86400)] = 0


class TasksIn(Strict):
    """Several tasks in one request: all or none."""

    tasks: Annotated[list[TaskIn], Field(min_length=1, max_length=10_000)]
    amend: bool = False  # a sealed workflow takes them too: it is its owner who asks


class ActionIn(Strict):
    """One word on many tasks: all or none."""

    action: Literal["cancel", "detach", "remove", "undo"]
    ids: Annotated[list[Uuid], Field(min_length=1, max_length=10_000)]


class WorkflowIn(Strict):
    """A new workflow, with tasks or without."""

    id: Uuid | None = None
    name: Name
    tags: Annotated[list[Name], Field(max_length=64)] = []
    sealed: bool = False
    on_failure: Literal["stop", "undo"] = "stop"
    tasks: Annotated[list[TaskIn], Field(max_length=10_000)] = []


class WorkflowPatch(Strict):
    name: Name | None = None
    tags: Annotated[list[Name], Field(max_length=64)] | None = None
    on_failure: Literal["stop", "undo"] | None = None


class AgentIn(Strict):
    """A registration."""

    name: Name
    capabilities: Annotated[list[Name], Field(max_length=256)] = []
    server: Name | None = None
    join_ttl: Annotated[float, Field(gt=0, le=JOIN_TTL_MOST)] | None = None
    heat: HeatOrigin | None = None

    def new_agent(self) -> NewAgent:
        heat = None if self.heat is None else self.heat.model_dump(by_alias=True, exclude={"edges"})
        return NewAgent(self.name, self.capabilities, self.server, heat, self.join_ttl)


class RejoinIn(Strict):
    """How long the new join token is good, in seconds; an hour if nothing is said."""

    join_ttl: Annotated[float, Field(gt=0, le=JOIN_TTL_MOST)] | None = None


class AgentPatch(Strict):
    name: Name | None = None
    capabilities: Annotated[list[Name], Field(max_length=256)] | None = None
    server: Name | None = None
