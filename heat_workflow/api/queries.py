# SPDX-License-Identifier: Apache-2.0
"""Queries: the query parameters of the routes, checked as bodies are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from heat_workflow.api.schemas import Uuid
from heat_workflow.model import AgentState, TaskState, WorkflowState

Word = Annotated[str, Field(max_length=400)]


def _iso(text: Any) -> Any:
    if isinstance(text, str) and "T" not in text:
        raise ValueError("write a moment as 2026-01-31T12:00:00Z")
    return text


Moment = Annotated[pydantic.AwareDatetime, pydantic.BeforeValidator(_iso)]


class Query(pydantic.BaseModel):
    """Query parameters arrive as text and are converted; unknown ones are refused."""

    model_config = pydantic.ConfigDict(extra="forbid")


class Page(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
    marker: Uuid | None = None


class WorkflowsQuery(Page):
    state: WorkflowState | None = None
    tag: Word | None = None
    name: Word | None = None


class TasksQuery(Page):
    state: TaskState | None = None
    fanout: Annotated[str, Field(min_length=1, max_length=511)] | None = None
    wait: Annotated[float, Field(ge=0, le=50)] = 0


class AgentsQuery(Page):
    state: AgentState | None = None
    server: Word | None = None
    version: Word | None = None
    seen_before: Moment | None = None
    all_projects: bool = False


class WaitQuery(Query):
    wait: Annotated[float, Field(ge=0, le=50)] = 0


class TaskQuery(WaitQuery):
    reveal: bool = False


class EventsQuery(WaitQuery):
    after: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


class GraphQuery(Query):
    format: Literal["json", "dot"] = "json"


class LogQuery(Query):
    follow: bool = False


class AttemptsQuery(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
    marker: Annotated[int, Field(ge=0, lt=2**31)] = 0  # the last attempt of the page before


class AgentEventsQuery(Query):
    after: Annotated[int, Field(ge=0, lt=2**31)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
