# SPDX-License-Identifier: Apache-2.0
"""What the schemas make of a body."""

from __future__ import annotations

from heat_workflow.api.schemas import TaskIn


def test_g21_a_field_that_a_release_before_does_not_know_is_kept_only_where_it_is_given() -> None:
    """The spec is part of what makes two requests the same: a repeat after an upgrade is no other request."""
    body = {"name": "t", "definition": {"group": "script"}}
    assert "environment_inputs" not in TaskIn.model_validate(body).new_task().spec
    given = TaskIn.model_validate({**body, "environment_inputs": ["pw"]}).new_task()
    assert given.spec["environment_inputs"] == ["pw"]
