# SPDX-License-Identifier: Apache-2.0
"""Policies: who may do what, in code; operators override single rules in policy.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_policy import policy

from heat_workflow import errors

READER = "role:reader or role:member or role:admin"
MEMBER = "role:member or role:admin"
ADMIN = "role:admin"

_RULES = {
    "workflows:get": (READER, "List and show workflows, their tasks, events and graph, without secret values"),
    "workflows:create": (MEMBER, "Create and change workflows, add tasks"),
    "workflows:delete": (MEMBER, "Delete workflows, detach tasks"),
    "workflows:control": (MEMBER, "Pause, resume, cancel, rerun and undo workflows and tasks"),
    "secrets:read": (MEMBER, "Read the values of hidden outputs"),
    "agents:get": (READER, "List and show agents"),
    "agents:manage": (MEMBER, "Register, change, drain, quarantine and revoke agents"),
    "agents:get_all_projects": (ADMIN, "List the agents of every project"),
}


def list_rules() -> list[policy.DocumentedRuleDefault]:
    """For oslopolicy-sample-generator."""
    operations = [{"path": "/v1", "method": "*"}]
    return [
        policy.DocumentedRuleDefault(name, check, description, operations, scope_types=["project"])
        for name, (check, description) in _RULES.items()
    ]


class Policy:
    """Decides by the caller's roles; every rule is in ``list_rules``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._enforcer = policy.Enforcer(conf)
        self._enforcer.suppress_default_change_warnings = True
        self._enforcer.register_defaults(list_rules())

    def check(self, rule: str, project_id: str, credentials: Mapping[str, Any]) -> None:
        """Raise Forbidden unless the rule lets the caller act in their own project."""
        if not self._enforcer.enforce(rule, {"project_id": project_id}, dict(credentials)):
            raise errors.Forbidden(f"the policy {rule} does not allow this with your roles", code="policy")
