# SPDX-License-Identifier: Apache-2.0
"""Problems: every family of errors has its status, and every answer the same form."""

from __future__ import annotations

import json

import pytest

from heat_workflow import errors
from heat_workflow.api.problems import STATUS, TITLES, error_response, refusal


def families(root: type[errors.HeatWorkflowError]) -> list[type[errors.HeatWorkflowError]]:
    return [found for family in root.__subclasses__() for found in (family, *families(family))]


@pytest.mark.parametrize("family", families(errors.HeatWorkflowError))
def test_every_family_has_a_status_of_its_own(family: type[errors.HeatWorkflowError]) -> None:
    answer = refusal(family("why"), "req-1")
    assert answer.status_code == STATUS[family]
    (error,) = json.loads(bytes(answer.body))["errors"]
    assert error["title"] == TITLES[answer.status_code]
    assert (error["detail"], error["request_id"]) == ("why", "req-1")
    assert answer.headers["x-openstack-request-id"] == "req-1"


def test_the_statuses_are_all_different() -> None:
    assert len(set(STATUS.values())) == len(STATUS)


@pytest.mark.parametrize(("asked", "said"), [(0.01, "1"), (1.2, "2"), (30.0, "30")])
def test_the_time_to_come_back_is_whole_seconds_and_never_early(asked: float, said: str) -> None:
    assert refusal(errors.TooMany("slow", retry_after=asked), "req-1").headers["retry-after"] == said


def test_an_answer_without_a_request_gets_an_id_of_its_own() -> None:
    one, other = (error_response(404, "not-found", "x").headers["x-openstack-request-id"] for _ in range(2))
    assert one != other
