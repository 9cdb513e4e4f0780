# SPDX-License-Identifier: Apache-2.0
"""Workflow schema: the properties and attributes of a workflow in HOT, and the fields of its tasks, with help."""

from __future__ import annotations

from typing import Any

from heat.common.i18n import _
from heat.engine import attributes, constraints, properties

from heat_workflow.resources import schema
from heat_workflow.resources.servers import servers_schema

_Schema = properties.Schema

NAME, TASKS, ON_FAILURE, SEALED = "name", "tasks", "on_failure", "sealed"
REQUIRES, SERVERS, BATCH = "requires", "servers", "batch"
STATES, WORKFLOW_ID, GRAPH = "tasks", "workflow_id", "graph"

_SHARED = (
    schema.CONFIG,
    schema.DEFINITION,
    schema.INPUT_VALUES,
    schema.CAPABILITIES,
    schema.TIMEOUT,
    schema.PICKUP_TIMEOUT,
    schema.MAX_ATTEMPTS,
    schema.RETRY_DELAY,
    schema.RUN_AS,
    schema.ON_INTERRUPT,
    schema.PRIORITY,
    schema.UNDO,
    schema.CONCURRENCY_KEY,
    schema.HIDDEN_INPUTS,
    schema.HIDDEN_OUTPUTS,
    schema.ENVIRONMENT_INPUTS,
)

_batch_schema = {
    "max_size": _Schema(_Schema.INTEGER, _("Servers at a time."), default=1, constraints=[constraints.Range(min=1)]),
    "pause": _Schema(_Schema.NUMBER, _("Seconds between two batches."), default=0, constraints=[constraints.Range(0)]),
    "max_errors": _Schema(
        _Schema.INTEGER, _("Servers that may fail."), default=0, constraints=[constraints.Range(min=0)]
    ),
}

task_fields: dict[str, Any] = {
    **{name: schema.task_properties[name] for name in _SHARED},
    schema.SERVER: _Schema(_Schema.STRING, _("ID of the server to run on.")),
    SERVERS: servers_schema(
        _("IDs of the servers to run on, under names of your own: one task for each, and outputs come as maps."),
    ),
    BATCH: _Schema(_Schema.MAP, _("How the servers are taken in turn. Default: all at once."), schema=_batch_schema),
    REQUIRES: _Schema(
        _Schema.LIST,
        _("Tasks of this workflow that have to succeed first. Those that inputs come from are required in any case."),
        schema=_Schema(_Schema.STRING),
        default=[],
    ),
}

workflow_properties = {
    NAME: _Schema(
        _Schema.STRING,
        _("Name of the workflow, for people. Default: made from the names of stack and resource."),
        update_allowed=True,
    ),
    TASKS: _Schema(
        _Schema.MAP,
        _(
            "The tasks by their names: maps of the properties of OS::HeatWorkflow::Task, and requires, servers, batch. "
            "An input value {get_output: [task, output]} is filled in when that task has succeeded."
        ),
        default={},
        update_allowed=True,
    ),
    schema.INPUT_VALUES: _Schema(
        _Schema.MAP,
        _("Values for every task whose config declares an input of that name and that has no value of its own."),
        update_allowed=True,
    ),
    ON_FAILURE: _Schema(
        _Schema.STRING,
        _("What happens when a task fails: what depends on it is skipped (stop), or what succeeded is undone (undo)."),
        default="stop",
        constraints=[constraints.AllowedValues(["stop", "undo"])],
        update_allowed=True,
    ),
    schema.ACTIONS: schema.task_properties[schema.ACTIONS],
    schema.TIMEOUT: _Schema(
        _Schema.NUMBER,
        _("Seconds the whole workflow may take. The stack operation's own time limit holds in any case."),
        constraints=[constraints.Range(min=1)],
        update_allowed=True,
    ),
    SEALED: _Schema(
        _Schema.BOOLEAN,
        _("Whether the workflow is these tasks and no more. If not, Task resources may add theirs to it."),
        default=True,
    ),
}

_LIVE = attributes.Schema.CACHE_NONE
workflow_attributes = {
    schema.OUTPUTS: attributes.Schema(
        _("The outputs of every task: task, output, value; of a fan-out a map by the servers' names."),
        type=attributes.Schema.MAP,
    ),
    STATES: attributes.Schema(
        _("The state of every task; of a fan-out a map by the servers' names."),
        type=attributes.Schema.MAP,
        cache_mode=_LIVE,
    ),
    WORKFLOW_ID: attributes.Schema(_("ID of the workflow in the tasks API."), type=attributes.Schema.STRING),
    GRAPH: attributes.Schema(
        _("Tasks and edges as the tasks API shows them."), type=attributes.Schema.MAP, cache_mode=_LIVE
    ),
}
