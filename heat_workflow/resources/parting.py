# SPDX-License-Identifier: Apache-2.0
"""Parting: what DELETE runs where something was deployed: that, whatever the template says by now.

The tasks API keeps a task's definition and the values it was given, and Heat the properties that were brought into
effect last. What neither has is the DELETE entry of a software component that is gone: the resource's data keeps it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any, cast

from heat_workflow.resources import asked, definitions, schema, slots
from heat_workflow.resources.slots import Slot
from heat_workflow.shapes import Definition, Json, Task, TaskBody

DELETE = "DELETE"
ENTRIES_KEY = "heat_workflow_deletes"  # the DELETE entries of the components that are deployed, by their work's digest
PARTED_KEY = "heat_workflow_parted"  # where an update that has not come to its end has run DELETE, and nothing before
MOST = 60_000  # characters in a row of resource data: a TEXT of MariaDB holds 65,535 bytes

_KEPT = (*asked.PASSED_ON, schema.ON_INTERRUPT)


def definition_for(
    kept: Definition | None, source: Definition | None, wanted: TaskBody | None, record: Definition | None
) -> Definition | None:
    """What DELETE runs of work that the template does not ask for any more, None if nothing.

    ``kept`` is the entry of a component that was put down when it was deployed; ``source`` and ``wanted`` are what the
    template asks for, the component and its DELETE; ``record`` is what the tasks API has of the task, None if DELETE
    is not among the actions.
    """
    if kept is not None:
        return kept
    if source is not None and source["group"] == definitions.COMPONENT:
        return None if wanted is None else wanted["definition"]
    return record


def of_record(task: Task, slot: Slot, definition: Definition, frame: TaskBody, known: Mapping[str, Json]) -> TaskBody:
    """The DELETE of a deployed task: the definition, with the values and the limits that the task had.

    Hidden values are erased at a task's end: those that Heat still has (``known``) are given, the others are not.
    """
    given = cast("dict[str, Json]", task.get("input_values") or {})
    hidden = set(task.get("hidden_inputs") or ())
    values = {name: value for name, value in given.items() if name not in hidden}
    values.update({name: known[name] for name in hidden & known.keys()})
    values["deploy_action"] = DELETE
    if slot.member:  # as for every member, so that those with equal records share one request
        values["deploy_server_id"] = {"get_server": "id"}
        if values.get("deploy_resource_name") == slot.member:
            values["deploy_resource_name"] = {"get_server": "name"}
    limits = {name: value for name in _KEPT if (value := cast("Mapping[str, Any]", task).get(name)) not in (None, [])}
    limits["capabilities"] = [one for one in limits.get("capabilities", ()) if one != f"server={task.get('server')}"]
    body = {**limits, **frame, "definition": definitions.with_values(definition, values, {}), "input_values": values}
    return cast(TaskBody, body)


def is_work_of(task: Task, body: TaskBody | None) -> bool:
    """Whether what was deployed by the task is what the body takes down."""
    return body is not None and slots.digest_of_task(task) == slots.digest_of_task(body)  # type: ignore[arg-type]


# -- what is put down in the resource's data -------------------------------------------------------------------------


def entry_of(source: Definition | None) -> Definition | None:
    """The DELETE entry of a component, None for every other source: the tasks API keeps those."""
    if source is None or source["group"] != definitions.COMPONENT:
        return None
    return definitions.for_action(source, DELETE, ())


def find_entries(resource: Any) -> dict[str, Definition]:
    """The DELETE entries that were put down, by the digest of the work; none for stacks of releases that did not."""
    text = resource.data().get(ENTRIES_KEY)
    stored = json.loads(zlib.decompress(base64.b64decode(text))) if text else {}
    # Heat on SQLite gives the row number of a deleted resource, and with it the data left behind, to a new one.
    found: dict[str, Definition] = stored.get("entries", {}) if stored.get("owner") == resource.resource_id else {}
    return found


def keep_entries(resource: Any, new: Mapping[str, Definition], deployed: Collection[str]) -> None:
    """Put down the entries of what is about to run, and forget those of what is not deployed any more.

    Entries too large for the row are left out: DELETE runs then with what the template's component says.
    """
    old = find_entries(resource)
    entries = {**{digest: entry for digest, entry in old.items() if digest in deployed}, **new}
    if entries == old:
        return
    while True:
        stored = json.dumps({"owner": resource.resource_id, "entries": entries}, sort_keys=True)
        text = base64.b64encode(zlib.compress(stored.encode())).decode()
        if len(text) <= MOST or not entries:
            break
        del entries[next(iter(entries))]
    resource.data_set(ENTRIES_KEY, text)


def find_parted(resource: Any) -> Set[str]:
    """The marks of the places that were left, though nothing but DELETE ever ran there."""
    stored = json.loads(resource.data().get(PARTED_KEY) or "{}")
    return set(stored["marks"]) if stored.get("owner") == resource.resource_id else set()


def note_parted(resource: Any, places: Iterable[tuple[Slot, str | None]]) -> None:
    """Keep in mind that these places were left, until the update has come to its end: no DELETE runs twice."""
    new = {mark_of(slot, server) for slot, server in places}
    if new:
        marks = sorted(new | find_parted(resource))[: MOST // 16]
        resource.data_set(PARTED_KEY, json.dumps({"owner": resource.resource_id, "marks": marks}))


def forget_parted(resource: Any) -> None:
    """The update has come to its end: Heat itself knows now what was left."""
    if PARTED_KEY in resource.data():
        resource.data_delete(PARTED_KEY)


def mark_of(slot: Slot, server: str | None) -> str:
    """A short name for the place."""
    return hashlib.sha256(json.dumps([slot.task, slot.member, server]).encode()).hexdigest()[:12]
