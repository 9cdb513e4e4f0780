# SPDX-License-Identifier: Apache-2.0
"""Group schema: the properties, policies and attributes of a group of tasks in HOT, with their help."""

from __future__ import annotations

from typing import Any

from heat.common.i18n import _
from heat.engine import attributes, constraints, properties

from heat_workflow.resources import schema
from heat_workflow.resources.servers import servers_schema

_Schema = properties.Schema

SERVERS, FAILED = "servers", "failed"
MAX_BATCH_SIZE, PAUSE_TIME, MAX_ERRORS = "max_batch_size", "pause_time", "max_errors"
ROLLING_UPDATE, BATCH_CREATE = "rolling_update", "batch_create"

group_properties = {
    SERVERS: servers_schema(
        _("The servers to run on: their IDs under names of your own. Outputs come under the same names."),
        required=True,
        update_allowed=True,
    ),
    **{name: kind for name, kind in schema.task_properties.items() if name != schema.SERVER},
}


def _batches(description: str) -> Any:
    fields = {
        MAX_BATCH_SIZE: _Schema(
            _Schema.INTEGER, _("Servers at a time."), default=1, constraints=[constraints.Range(min=1)]
        ),
        PAUSE_TIME: _Schema(
            _Schema.NUMBER,
            _("Seconds between the end of a batch and the start of the next."),
            default=0,
            constraints=[constraints.Range(min=0)],
        ),
        MAX_ERRORS: _Schema(
            _Schema.INTEGER,
            _("Servers that may fail, over the whole run. Above that no new batch starts and the group fails."),
            default=0,
            constraints=[constraints.Range(min=0)],
        ),
    }
    return _Schema(_Schema.MAP, description, schema=fields)


group_update_policy = {
    ROLLING_UPDATE: _batches(_("How servers are taken in turn on which the task has succeeded before.")),
    BATCH_CREATE: _batches(_("How servers are taken in turn on which it has not.")),
}

PLURALS = {f"{name}s": name for name in (schema.STDOUT, schema.STDERR, schema.STATUS_CODE, schema.TASK_ID)}
_TEXTS = {name: f"{kind.description} A map by the servers' names." for name, kind in schema.task_attributes.items()}
group_attributes = {
    **{name: attributes.Schema(text, type=attributes.Schema.MAP) for name, text in _TEXTS.items()},
    **{name: attributes.Schema(_TEXTS[one], type=attributes.Schema.MAP) for name, one in PLURALS.items()},
    FAILED: attributes.Schema(_("Names of the servers on which the task failed."), type=attributes.Schema.LIST),
}
