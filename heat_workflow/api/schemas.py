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


_TOLD_MOST = 8  # unknown fields that are told one by one


class Strict(pydantic.BaseModel):
    """A body: no unknown fields, no conversions between types.

    A refusal costs little however wrong the body is: lists end at their first bad item (``fail_fast``), mappings and
    fields are counted before they are looked at.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + _TOLD_MOST:
            unknown = next(name for name in value if name not in cls.model_fields)
            raise ValueError(f"there are {len(value)} fields; {unknown[:64]!r} and others are not known")
        return value


PARTS_MOST = 20_000  # declared inputs and outputs, and edges, of all tasks in one request


def _few_parts(tasks: Any) -> Any:
    """The tasks, if all together have no more parts than one request may have checked."""
    parts = sum(_parts(task) for task in tasks if isinstance(task, dict)) if isinstance(tasks, list) else 0
    if parts > PARTS_MOST:
        raise ValueError(f"declare {PARTS_MOST} inputs, outputs and edges at most in one request, not {parts}")
    return tasks


def _parts(task: dict[str, Any]) -> int:
    holders = (task.get("definition"), task.get("undo"), task.get("heat"))
    lists = [holder.get(name) for holder in holders if holder and isinstance(holder, dict) for name in _PARTS]
    return sum(len(found) for found in lists if isinstance(found, list))


_PARTS = ("inputs", "outputs", "edges")


def at_most(count: int) -> Any:
    """A mapping of so many entries at most; a larger one is refused before its entries are looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > count:
            raise ValueError(f"holds {count} entries at most, not {len(value)}")
        return value

    return pydantic.BeforeValidator(check)


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
    options: dict[str, Any] = Field(default_factory=dict)
    inputs: Annotated[list[ValueSchema], Field(max_length=256, fail_fast=True)] = Field(default_factory=list)
    outputs: Annotated[list[ValueSchema], Field(max_length=256, fail_fast=True)] = Field(default_factory=list)

    @pydantic.model_validator(mode="after")
    def _names_once(self) -> Definition:
        for kind in (self.inputs, self.outputs):
            seen: set[str] = set()
            for value in kind:
                if value.name in seen:
                    raise ValueError(f"{value.name} is declared twice")
                seen.add(value.name)
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
    edges: Annotated[list[Edge], Field(max_length=1000, fail_fast=True)] = Field(default_factory=list)
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
    input_values: Annotated[dict[ValueName, Any], Field(max_length=256), at_most(256)] = Field(default_factory=dict)
    hidden_inputs: Annotated[list[ValueName], Field(max_length=256, fail_fast=True)] = Field(default_factory=list)
    hidden_outputs: Annotated[list[ValueName], Field(max_length=256, fail_fast=True)] = Field(default_factory=list)
    environment_inputs: Annotated[list[ValueName], Field(max_length=256, fail_fast=True)] = Field(default_factory=list)
    requires: Annotated[list[TaskName], Field(max_length=1000, fail_fast=True)] = Field(default_factory=list)
    heat: HeatOrigin | None = None
    capabilities: Annotated[list[Name], Field(max_length=32, fail_fast=True)] = Field(default_factory=list)
    server: Name | None = None
    servers: Annotated[dict[Name, Name], Field(min_length=1, max_length=10_000), at_most(10_000)] | None = None
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

    input_values: Annotated[dict[ValueName, Any], Field(max_length=256), at_most(256)] = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    timeout: Seconds | None = None
    pickup_timeout: Seconds | None = None
    deadline: Seconds | None = None
    retry_delay: Annotated[float, Field(ge=0, le=86400)] = 0


class TasksIn(Strict):
    """Several tasks in one request: all or none."""

    tasks: Annotated[
        list[TaskIn], Field(min_length=1, max_length=10_000, fail_fast=True), pydantic.BeforeValidator(_few_parts)
    ]
    amend: bool = False  # a sealed workflow takes them too: it is its owner who asks


class ActionIn(Strict):
    """One word on many tasks: all or none."""

    action: Literal["cancel", "detach", "remove", "undo"]
    ids: Annotated[list[Uuid], Field(min_length=1, max_length=10_000, fail_fast=True)]


class WorkflowIn(Strict):
    """A new workflow, with tasks or without."""

    id: Uuid | None = None
    name: Name
    tags: Annotated[list[Name], Field(max_length=64, fail_fast=True)] = Field(default_factory=list)
    sealed: bool = False
    on_failure: Literal["stop", "undo"] = "stop"
    tasks: Annotated[list[TaskIn], Field(max_length=10_000, fail_fast=True), pydantic.BeforeValidator(_few_parts)] = (
        Field(default_factory=list)
    )


class WorkflowPatch(Strict):
    name: Name | None = None
    tags: Annotated[list[Name], Field(max_length=64, fail_fast=True)] | None = None
    on_failure: Literal["stop", "undo"] | None = None


class AgentIn(Strict):
    """A registration."""

    name: Name
    capabilities: Annotated[list[Name], Field(max_length=256, fail_fast=True)] = Field(default_factory=list)
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
    capabilities: Annotated[list[Name], Field(max_length=256, fail_fast=True)] | None = None
    server: Name | None = None
