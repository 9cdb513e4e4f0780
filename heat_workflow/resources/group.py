# SPDX-License-Identifier: Apache-2.0
"""Group: the type OS::HeatWorkflow::TaskGroup, one software config run on many servers by one resource."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from heat.common import exception
from heat.engine import attributes, support

from heat_workflow.resources import definitions, origin, readers, schema, slots, values
from heat_workflow.resources.asked import Asked, replaces
from heat_workflow.resources.group_schema import (
    BATCH_CREATE,
    FAILED,
    MAX_BATCH_SIZE,
    MAX_ERRORS,
    PAUSE_TIME,
    PLURALS,
    ROLLING_UPDATE,
    SERVERS,
    group_attributes,
    group_properties,
    group_update_policy,
)
from heat_workflow.resources.many import ManyTasks
from heat_workflow.resources.runs import find_runs
from heat_workflow.resources.servers import servers_of, wrong_servers
from heat_workflow.resources.slots import Slot
from heat_workflow.shapes import Definition, Json, Task, TaskBody


class TaskGroupResource(Asked, ManyTasks):
    """Runs a software config on each of its servers, all at once or batch by batch.

    It is one resource however many servers there are: the tasks are added in one request, and the tasks API rolls over
    them. An update runs on those servers only that are new, that have changed, or where it failed before. Attributes
    are those of OS::HeatWorkflow::Task as maps by the servers' names.
    """

    support_status = support.SupportStatus(version="1.0.0")
    properties_schema = group_properties
    attributes_schema = group_attributes
    update_policy_schema = group_update_policy
    places = (SERVERS,)

    # -- what an action does -----------------------------------------------------------------------------------

    def _wanted(self, action: str) -> Mapping[Slot, TaskBody]:
        servers = self._servers()
        asked = self._asked(action) if servers else None
        if asked is None:
            return {}
        source, body = asked
        path = origin.find_place(self).path
        body.update(self._frame(Slot(path), action))
        shared = {key: self.properties[key] or None for key in (schema.CAPABILITIES, schema.RUN_AS)}
        given = dict(self.properties[schema.INPUT_VALUES] or {})
        body["heat"]["digest"] = definitions.digest_of(self._salt(), source, given, {**shared, **self._also_wanted()})
        if batch := self._batch(action):
            body["batch"] = batch
        return {Slot(path, name): {**body, "server": server} for name, server in servers.items()}

    def _frame(self, slot: Slot, action: str) -> TaskBody:
        frame: TaskBody = {"name": slot.task, "heat": origin.heat_origin(self, action)}
        if self.properties[schema.WORKFLOW] is None:
            frame["workflow"] = {"id": self._workflow_id(), "name": origin.find_place(self).root_name}
        return frame

    def _places(self) -> Mapping[Slot, str | None]:
        path = origin.find_place(self).path
        return {Slot(path, name): server for name, server in self._servers().items()}

    def _source_of(self, slot: Slot) -> Definition | None:
        return self._source(self.DELETE)

    def _values_of(self, slot: Slot) -> Mapping[str, Json]:
        return dict(self.properties[schema.INPUT_VALUES] or {})

    def _servers(self) -> dict[str, str]:
        return servers_of(self.properties[SERVERS])

    def _batch(self, action: str) -> dict[str, float] | None:
        """How the tasks API is to roll over the servers, None for all at once."""
        policy = self._policy(BATCH_CREATE if action == self.CREATE else ROLLING_UPDATE)
        if policy is None or action not in (self.CREATE, self.UPDATE):
            return None
        size, pause, most = (policy[key] for key in (MAX_BATCH_SIZE, PAUSE_TIME, MAX_ERRORS))
        return {"max_size": size, "pause": pause, "max_errors": most}

    def _policy(self, name: str) -> Any:
        return self.update_policy.get(name)

    def _told_server(self) -> Json:
        return {"get_server": "id"}

    def _told_name(self) -> Json:
        return {"get_server": "name"}

    def _replaces(self, slot: Slot, body: TaskBody, task: Task) -> bool:
        return replaces(body, task)

    # -- the API -----------------------------------------------------------------------------------------------

    def _workflow_id(self) -> str:
        runs = find_runs(self)
        chosen: str | None = runs.workflow_id if runs else self.properties[schema.WORKFLOW]
        return chosen or origin.find_place(self).workflow["id"]

    def _send(self, requests: list[TaskBody]) -> None:
        for request in requests:
            self._api().put_task(self._workflow_id(), request["id"], request)

    def _list(self, wait: float) -> Iterable[Task]:
        return self._api().list_fanout(self._workflow_id(), origin.find_place(self).path, wait=wait)

    def _waits(self) -> bool:
        transport: str = self.properties[schema.SIGNAL_TRANSPORT]
        return transport.upper() != schema.NO_SIGNAL

    def _judge(self, action: str, tasks: Mapping[Slot, Task]) -> None:
        """Fail if more servers failed than may."""
        bad = {slot.member: task for slot, task in sorted(tasks.items()) if task["state"] != "succeeded"}
        tolerated = len(bad) <= self._max_errors(action) and {task["state"] for task in bad.values()} <= slots.FAILED
        self._note_failures(bool(bad) and tolerated)
        if not bad or tolerated:
            return
        raise exception.Error(f"task {self.name} {_failures(bad, len(tasks))}")

    def _max_errors(self, action: str) -> int:
        """Failures that are tolerated: an update creates where servers are new."""
        names = [BATCH_CREATE] if action == self.CREATE else [ROLLING_UPDATE, BATCH_CREATE]
        policies = [policy for name in names if (policy := self._policy(name))] if action != self.DELETE else []
        return max((policy[MAX_ERRORS] for policy in policies), default=0)

    # -- attributes --------------------------------------------------------------------------------------------

    def get_attribute(self, key: str, *path: Any) -> Any:
        """What each server's latest run that an agent took has said, by the server's name. Declared names win."""
        declared = self._declared_outputs()
        plural = {f"{name}s": name for name in declared}
        known = key in declared or key in plural or key in group_attributes
        if not known:
            raise exception.InvalidTemplateAttribute(resource=self.name, key=key)
        tasks = self._tasks_by_server()
        if key == FAILED and key not in declared:
            found: Any = sorted(name for name, task in tasks.items() if task["state"] in slots.FAILED)
            return attributes.select_from_attribute(found, path)
        name = key if key in declared else PLURALS.get(key) or plural.get(key, key)
        reveal = self._revealed if self._exposes_hidden() else None
        shown = {server: values.value_of(task, name, name in declared, reveal) for server, task in tasks.items()}
        return attributes.select_from_attribute(shown, path)

    def _tasks_by_server(self) -> dict[str, Task]:
        history, path = self._last_known(), origin.find_place(self).path
        found = {name: history.ran(Slot(path, name)) for name in self._servers()}
        return {name: task for name, task in found.items() if task is not None}

    def _revealed(self, task: Task) -> Task:
        return self._api().get_task(self._workflow_id(), task["id"], reveal=True)

    def _declared_outputs(self) -> set[str]:
        definition: Definition | None = self._source(self.CREATE)
        return {str(output["name"]) for output in (definition or {}).get("outputs", [])}

    def _resolve_attribute(self, name: str) -> Any:
        return self.get_attribute(name)

    # -- validation --------------------------------------------------------------------------------------------

    def validate(self) -> Any:
        """Refuse, before anything is created, what could never run, and pauses that the stack has no time for."""
        result = super().validate()
        if wrong := wrong_servers(self.properties.data.get(SERVERS)):
            self._refuse(wrong)
        self._validate_asked()
        for name in (ROLLING_UPDATE, BATCH_CREATE):
            self._refuse_long_pauses(name)
        return result

    def _attribute_names(self, declared: Collection[str]) -> Collection[str]:
        return {*declared, *(f"{one}s" for one in declared)}

    def _output_read(self, path: readers.Path, declared: Collection[str] | None) -> str | None:
        """As of one task; besides, a name may be in the plural, and all outputs are by the servers' names first."""
        if path[0] == schema.OUTPUTS and schema.OUTPUTS not in (declared or ()):
            return str(path[2]) if len(path) > 2 else None
        name = str(path[0])
        singular = name[:-1] if name.endswith("s") else name
        return singular if declared is not None and name not in declared and singular in declared else name

    def _refuse_long_pauses(self, name: str) -> None:
        policy, servers = self._policy(name), self._servers()
        if not policy or not policy[MAX_BATCH_SIZE]:
            return
        batches = math.ceil(len(servers) / policy[MAX_BATCH_SIZE])
        pauses = policy[PAUSE_TIME] * max(batches - 1, 0)
        if pauses >= self.stack.timeout_secs():
            self._refuse(
                f"{name} pauses for {pauses:g} s in all between {batches} batches; the stack may take "
                f"{self.stack.timeout_secs():g} s"
            )


def _failures(bad: Mapping[str, Task], of: int) -> str:
    """What went wrong: how many failed, where and why, and where nothing was begun because of that."""
    failed = [name for name, task in bad.items() if task["state"] in slots.FAILED]
    skipped = [name for name, task in bad.items() if task["state"] == "skipped"]
    ended = [name for name in bad if name not in skipped]
    said = [f"{name} ({bad[name].get('server')}) {slots.why(bad[name])}" for name in ended]
    what = "failed" if failed else "was ended"
    parts = [f"{what} on {len(failed or ended)} of {of} servers: {slots.listed(said)}"] if ended else []
    if skipped:
        parts.append(f"not begun on {len(skipped)}: {', '.join(skipped[: slots.REASONS_SHOWN])}")
    return "; ".join(parts)
