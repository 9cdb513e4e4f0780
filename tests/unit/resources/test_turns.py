# SPDX-License-Identifier: Apache-2.0
"""What an action on many tasks sends, and for how long it waits for undos."""

from __future__ import annotations

import uuid
from typing import Any, cast

from heat_workflow.resources.slots import Slot
from heat_workflow.resources.turns import Unclaimed, requests_of
from heat_workflow.shapes import Task, TaskBody

RUN = str(uuid.uuid4())


def body(server: str, **fields: Any) -> TaskBody:
    return cast(TaskBody, {"action": "CREATE", "name": "web", "input_values": {"v": "1"}, "server": server, **fields})


def test_members_that_share_everything_but_their_server_share_a_request() -> None:
    chosen = {
        Slot("web", "a"): body("1"),
        Slot("web", "b"): body("2"),
        Slot("web", "c"): body("3", action="UPDATE"),
        Slot("web", "d"): body("4", input_values={"v": "0"}),
        Slot("db"): body("5"),
    }
    requests = requests_of(chosen, RUN)
    assert [request.get("servers") for request in requests] == [{"a": "1", "b": "2"}, {"c": "3"}, {"d": "4"}, None]
    assert [request.get("server") for request in requests] == [None, None, None, "5"]
    assert [request["id"] for request in requests] == [
        Slot(slot).request_id(RUN) for slot in ("web", "web", "web", "db")
    ]


def undo(number: int, state: str) -> Task:
    return cast(Task, {"id": str(number), "state": state, "waiting_for": "agent x"})


def test_an_undo_is_late_once_nobody_has_taken_it_for_long_and_one_that_waits_for_another_is_not() -> None:
    unclaimed = Unclaimed(60)
    chain = [undo(1, "leased"), undo(2, "waiting"), undo(3, "ready")]
    assert unclaimed.late(chain, 0) == []
    assert unclaimed.late(chain, 60) == []
    assert unclaimed.late(chain, 61) == [chain[2]]
    assert unclaimed.held == {"3": "agent x"}
    chain = [undo(2, "ready")]
    assert unclaimed.late(chain, 100) == [], "it has been ready from now on"
    assert unclaimed.late([undo(2, "leased")], 120) == []
    assert unclaimed.late(chain, 170) == [], "it was taken in between"
    assert unclaimed.late(chain, 231) == chain
