# SPDX-License-Identifier: Apache-2.0
"""What DELETE runs where something was deployed that the template does not ask for any more."""

from __future__ import annotations

from typing import Any, cast

import pytest

from heat_workflow.resources import parting
from heat_workflow.resources.slots import Slot
from heat_workflow.shapes import Definition, Task, TaskBody

KEPT: Definition = {"group": "script", "config": "kept entry"}
RECORD: Definition = {"group": "script", "config": "as deployed", "inputs": [{"name": "v", "type": "Json"}]}
COMPONENT: Definition = {"group": "component", "config": {"configs": []}}
SCRIPT: Definition = {"group": "script", "config": "as the template says"}
ASKED: TaskBody = {"definition": {"group": "script", "config": "the template's DELETE"}}


@pytest.mark.parametrize(
    ("kept", "source", "wanted", "record", "runs"),
    [
        (None, SCRIPT, ASKED, RECORD, "as deployed"),
        (None, SCRIPT, None, None, None),  # DELETE is not among the actions
        (None, None, None, RECORD, "as deployed"),  # the config is gone, or the slot has left the template
        (None, None, None, None, None),
        (KEPT, COMPONENT, ASKED, RECORD, "kept entry"),
        (KEPT, COMPONENT, None, None, "kept entry"),  # the component's new version has no DELETE
        (KEPT, SCRIPT, None, None, "kept entry"),  # the component was exchanged for a script
        (KEPT, None, None, None, "kept entry"),
        (None, COMPONENT, ASKED, RECORD, "the template's DELETE"),  # a stack of a release that kept no entries
        (None, COMPONENT, None, RECORD, None),  # what was deployed is the entry for CREATE: never that
    ],
)
def test_what_delete_runs(
    kept: Definition | None,
    source: Definition | None,
    wanted: TaskBody | None,
    record: Definition | None,
    runs: str | None,
) -> None:
    found = parting.definition_for(kept, source, wanted, record)
    assert (found["config"] if found else None) == runs


def deployed(**more: Any) -> Task:
    values = {
        "v": "old",
        "pw": "******",
        "deploy_action": "CREATE",
        "deploy_server_id": "s",
        "deploy_resource_name": "a",
    }
    limits = {"timeout": 9.0, "pickup_timeout": None, "hidden_inputs": ["pw"], "run_as": "web", "priority": 0}
    place = {"server": "s", "capabilities": ["gpu", "server=s"]}
    return cast(Task, {"input_values": values, "on_interrupt": "rerun", **limits, **place, **more})


def test_the_record_gives_values_and_limits_and_hidden_values_are_given_where_they_are_known() -> None:
    frame: TaskBody = {"name": "web", "action": "DELETE", "deadline": 30.0}
    body = parting.of_record(deployed(), Slot("web", "a"), RECORD, frame, {"pw": "s3cret", "v": "new", "w": "new"})
    told = {"deploy_server_id": {"get_server": "id"}, "deploy_resource_name": {"get_server": "name"}}
    assert body["input_values"] == {"v": "old", "pw": "s3cret", "deploy_action": "DELETE", **told}
    assert body["capabilities"] == ["gpu"], "the server is said once"
    limits = {"timeout": 9.0, "run_as": "web", "on_interrupt": "rerun", "hidden_inputs": ["pw"], "deadline": 30.0}
    assert {name: value for name, value in body.items() if name in (*limits, "pickup_timeout")} == limits
    assert {one["name"] for one in body["definition"]["inputs"]} == body["input_values"].keys()


def test_a_hidden_value_that_is_not_known_any_more_is_not_given() -> None:
    body = parting.of_record(deployed(), Slot("task"), RECORD, {}, {})
    assert "pw" not in body["input_values"], "never the mask"
    assert body["input_values"]["deploy_server_id"] == "s"


class Resource:
    """What stands in for a Heat resource: its data."""

    def __init__(self, resource_id: str = "1", data: dict[str, str] | None = None) -> None:
        self.resource_id = resource_id
        self._data = {} if data is None else data

    def data(self) -> dict[str, str]:
        return self._data

    def data_set(self, key: str, value: str) -> None:
        self._data[key] = value

    def data_delete(self, key: str) -> None:
        del self._data[key]


def test_entries_are_kept_while_they_are_deployed() -> None:
    resource = Resource()
    assert parting.find_entries(resource) == {}
    parting.keep_entries(resource, {}, set())
    assert resource.data() == {}, "most resources have none, and cost no row"
    parting.keep_entries(resource, {"1": KEPT}, set())
    parting.keep_entries(resource, {"2": RECORD}, {"1"})
    assert parting.find_entries(resource) == {"1": KEPT, "2": RECORD}
    parting.keep_entries(resource, {}, {"2"})
    assert parting.find_entries(resource) == {"2": RECORD}
    assert parting.find_entries(Resource("other", resource.data())) == {}, "left behind by a row of the same number"


def test_entries_too_large_for_a_row_are_left_out_oldest_first() -> None:
    import random

    large: Definition = {
        "group": "script",
        "config": "".join(map(chr, random.Random(1).choices(range(33, 127), k=60_000))),
    }
    resource = Resource()
    parting.keep_entries(resource, {"1": large}, set())
    parting.keep_entries(resource, {"2": KEPT}, {"1"})
    assert parting.find_entries(resource) == {"2": KEPT}
    assert len(resource.data()[parting.ENTRIES_KEY]) <= parting.MOST


def test_the_entry_of_a_component_and_of_nothing_else() -> None:
    configs: Any = [
        {"actions": ["CREATE"], "tool": "script", "config": "hi"},
        {"actions": ["UPDATE", "DELETE"], "tool": "puppet", "config": "bye"},
    ]
    entry = parting.entry_of({"group": "component", "config": {"configs": configs}})
    assert entry is not None
    assert (entry["group"], entry["config"]) == ("puppet", "bye")
    assert parting.entry_of({"group": "component", "config": {"configs": configs[:1]}}) is None
    assert parting.entry_of(SCRIPT) is None
    assert parting.entry_of(None) is None


def test_places_that_were_left_are_remembered_until_the_update_is_over() -> None:
    resource, slot = Resource(), Slot("web", "a")
    parting.forget_parted(resource)
    parting.note_parted(resource, [])
    assert resource.data() == {}
    parting.note_parted(resource, [(slot, "s")])
    parting.note_parted(resource, [(slot, "t")])
    marks = parting.find_parted(resource)
    assert {parting.mark_of(slot, "s"), parting.mark_of(slot, "t")} == marks
    assert parting.mark_of(slot, "u") not in marks
    parting.forget_parted(resource)
    assert parting.find_parted(resource) == set()
