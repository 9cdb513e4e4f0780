# SPDX-License-Identifier: Apache-2.0
"""Policies: what each role may do by default, and that an operator can take a right away."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_policy import opts

from heat_workflow import errors
from heat_workflow.api.policies import Policy, list_rules

BY_ROLE = {
    "reader": {"workflows:get", "agents:get"},
    "member": {rule.name for rule in list_rules()} - {"agents:get_all_projects", "workflows:get_all_projects"},
    "admin": {rule.name for rule in list_rules()},
    "stranger": set(),
}


def policy(directory: Path, text: str = "{}") -> Policy:
    conf = cfg.ConfigOpts()
    opts.set_defaults(conf)
    conf([], project="heat-workflow", default_config_files=[])
    path = directory / "policy.yaml"
    path.write_text(text)
    conf.set_override("policy_file", str(path), "oslo_policy")
    return Policy(conf)


def allowed(found: Policy, role: str) -> set[str]:
    who = {"user_id": "u", "project_id": "p", "roles": [role]}
    rights = set()
    for rule in list_rules():
        try:
            found.check(rule.name, "p", who)
        except errors.Forbidden:
            continue
        rights.add(rule.name)
    return rights


@pytest.mark.parametrize("role", BY_ROLE)
def test_a_role_may_what_it_may(tmp_path: Path, role: str) -> None:
    assert allowed(policy(tmp_path), role) == BY_ROLE[role]


def test_the_right_to_secrets_can_be_taken_away_alone(tmp_path: Path) -> None:
    found = policy(tmp_path, '"secrets:read": "role:admin"\n')
    assert BY_ROLE["member"] - allowed(found, "member") == {"secrets:read"}


def test_every_rule_is_for_a_project_and_says_what_it_is_for() -> None:
    assert all(rule.scope_types == ["project"] and rule.description for rule in list_rules())
