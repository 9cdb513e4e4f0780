# SPDX-License-Identifier: Apache-2.0
"""Policies: what each role may do by default, and that an operator can take a right away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_policy import opts

from heat_workflow import errors
from heat_workflow.api.policies import Policy, list_rules

BY_ROLE = {
    "reader": {"workflows:get", "agents:get"},
    "member": {rule.name for rule in list_rules()} - {"agents:get_all_projects"},
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


def test_s77_a_misspelt_rule_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(errors.Invalid, match="workflow:create"):
        policy(tmp_path, '"workflow:create": "!"\n')
    with pytest.raises(errors.Invalid, match="cannot be read"):
        policy(tmp_path, "workflows:get: [\n")


def test_s77_a_name_that_rules_refer_to_is_the_operators_own(tmp_path: Path) -> None:
    found = policy(tmp_path, '"helpdesk": "role:helpdesk"\n"workflows:get": "rule:helpdesk or (rule:helpdesk)"\n')
    assert allowed(found, "helpdesk") == {"workflows:get"}


def test_s77_one_that_comes_while_the_api_runs_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heat_workflow.api.policies._LOOK_EVERY", 0)
    found = policy(tmp_path)
    path = tmp_path / "policy.yaml"
    path.write_text('"workflow:create": "!"\n')
    os.utime(path, (2e9, 2e9))
    assert allowed(found, "member") == BY_ROLE["member"]
    assert [record.getMessage() for record in caplog.records if "workflow:create" in record.getMessage()] == [
        "The policy file has rules that are not known here and do nothing: workflow:create"
    ]


@pytest.mark.parametrize("text", ["workflows:get: [\n", "- a\n"])
def test_s77_a_file_that_cannot_be_read_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("heat_workflow.api.policies._LOOK_EVERY", 0)
    found = policy(tmp_path, '"workflows:get": "role:member"\n')
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    os.utime(path, (2e9, 2e9))
    assert allowed(found, "reader") == {"agents:get"}
    assert "the rules stay as they were" in caplog.text
