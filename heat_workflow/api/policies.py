# SPDX-License-Identifier: Apache-2.0
"""Policies: who may do what, in code; operators override single rules in policy.yaml."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_config import cfg
from oslo_policy import policy

from heat_workflow import errors

LOG = logging.getLogger(__name__)
_ALIAS = re.compile(r"rule:([^\s()]+)")
_UNREADABLE = (ValueError, TypeError, AttributeError)  # what oslo.policy raises for no YAML, or YAML of another shape
_LOOK_EVERY = 1.0  # seconds between looks whether the operator's file was changed: it is searched for in four places
READER = "role:reader or role:member or role:admin"
MEMBER = "role:member or role:admin"
ADMIN = "role:admin"

_WORKFLOW = "/v1/workflows/{workflow_id}"
_TASK = _WORKFLOW + "/tasks/{task_id}"
_AGENT = "/v1/agents/{agent_id}"
# Rule -> default, what it is for, the operations it opens (a test holds them against the table of routes).
_RULES: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "workflows:get": (
        READER,
        "List and show workflows, their tasks, events and graph, without secret values",
        (
            "GET /v1/workflows",
            f"GET {_WORKFLOW}",
            f"GET {_WORKFLOW}/events",
            f"GET {_WORKFLOW}/graph",
            f"GET {_WORKFLOW}/tasks",
            f"GET {_TASK}",
            f"GET {_TASK}/attempts",
            f"GET {_TASK}/log",
        ),
    ),
    "workflows:create": (
        MEMBER,
        "Create and change workflows, add tasks",
        (
            "POST /v1/workflows",
            f"PUT {_WORKFLOW}",
            f"PATCH {_WORKFLOW}",
            f"POST {_WORKFLOW}/tasks",
            f"PUT {_TASK}",
            f"PATCH {_TASK}",
        ),
    ),
    "workflows:delete": (
        MEMBER,
        "Delete workflows, detach tasks",
        (f"DELETE {_WORKFLOW}", f"DELETE {_TASK}"),
    ),
    "workflows:control": (
        MEMBER,
        "Pause, resume, cancel, rerun and undo workflows and tasks",
        (
            *(f"POST {_WORKFLOW}/{verb}" for verb in ("pause", "resume", "cancel", "rerun", "undo")),
            *(f"POST {_TASK}/{verb}" for verb in ("cancel", "rerun", "undo")),
            f"POST {_WORKFLOW}/tasks/actions",
        ),
    ),
    "secrets:read": (MEMBER, "Read the values of hidden outputs (reveal=true)", (f"GET {_TASK}",)),
    "agents:get": (
        READER,
        "List and show agents",
        ("GET /v1/agents", f"GET {_AGENT}", f"GET {_AGENT}/events"),
    ),
    "agents:manage": (
        MEMBER,
        "Register, change, drain, quarantine and revoke agents",
        (
            *(f"{method} {_AGENT}" for method in ("PUT", "PATCH", "DELETE")),
            *(f"POST {_AGENT}/{verb}" for verb in ("rejoin", "drain", "undrain", "quarantine")),
        ),
    ),
    "agents:get_all_projects": (ADMIN, "List the agents of every project (all_projects=true)", ("GET /v1/agents",)),
}


def list_rules() -> list[policy.DocumentedRuleDefault]:
    """For oslopolicy-sample-generator."""
    return [
        policy.DocumentedRuleDefault(
            name, check, description, [_operation(text) for text in operations], scope_types=["project"]
        )
        for name, (check, description, operations) in _RULES.items()
    ]


def _operation(text: str) -> dict[str, str]:
    method, _, path = text.partition(" ")
    return {"method": method, "path": path}


class Policy:
    """Decides by the caller's roles; every rule is in ``list_rules``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._enforcer = policy.Enforcer(conf)
        self._enforcer.suppress_default_change_warnings = True
        self._enforcer.register_defaults(list_rules())
        self._looked_at = float("-inf")
        self._told: list[str] = []
        try:
            self._enforcer.load_rules()
        except _UNREADABLE as exc:
            raise errors.Invalid(f"the policy file cannot be read: {exc}") from None
        if unknown := self._unknown_rules():
            raise errors.Invalid(f"the policy file has rules that are not known here: {', '.join(unknown)}")

    def _unknown_rules(self) -> list[str]:
        """Rules of the operator's files that nothing asks for, most likely misspelt: what they were to forbid or allow
        is decided by the default. Names that other rules refer to are the operator's own."""
        known = set(_RULES)
        for rule in self._enforcer.file_rules.values():
            known.update(_ALIAS.findall(str(rule.check_str)))
        return sorted(set(self._enforcer.file_rules) - known)

    def _load_changes(self) -> None:
        """Take over what the operator changed in the files; one that cannot be read changes nothing."""
        self._enforcer.use_conf = True
        try:
            self._enforcer.load_rules()
            self._tell_unknown_rules()
        except _UNREADABLE as exc:
            LOG.error("The policy file cannot be read, the rules stay as they were: %s", exc)
        finally:
            self._enforcer.use_conf = False

    def _tell_unknown_rules(self) -> None:
        """A file that is changed while the API runs cannot be refused: say it in the log, once for each change."""
        unknown = self._unknown_rules()
        if unknown and unknown != self._told:
            LOG.error("The policy file has rules that are not known here and do nothing: %s", ", ".join(unknown))
        self._told = unknown

    def check(self, rule: str, project_id: str, credentials: Mapping[str, Any]) -> None:
        """Raise Forbidden unless the rule lets the caller act in their own project."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY:
            self._looked_at = now
            self._load_changes()
        if not self._enforcer.enforce(rule, {"project_id": project_id}, dict(credentials)):
            raise errors.Forbidden(f"the policy {rule} does not allow this with your roles", code="policy")
