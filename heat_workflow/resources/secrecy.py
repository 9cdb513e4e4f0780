# SPDX-License-Identifier: Apache-2.0
"""Secrecy: who gets a resource's secrets out of Heat, and what they look like in what Heat writes down of a stack.

Heat encrypts the data of a resource in its database, but puts it in clear into the data of an abandoned stack and into
a snapshot, and by Heat's policies a reader of the project may look at a snapshot, at attributes and at stack outputs.
"""

from __future__ import annotations

from typing import Any, ClassVar

from heat.common import crypt, exception
from heat.engine import resource

_SEALED = "heat-workflow-sealed:"


def may_have_secrets(stack: Any) -> bool:
    """Whether a secret of a resource may be given to whoever Heat works for at the moment.

    That is the engine itself, while it creates or updates what depends on the resource (also by the stack's trust,
    which no request can bring along), an administrator of the cloud, and by Heat's policy ``stacks:update`` whoever
    could change the stack, since he could have the value put anywhere.
    """
    context = stack.context
    if stack.in_convergence_check or context.trust_id or context.is_admin:
        return True
    try:
        allowed = context.policy.enforce(
            context, "update", scope="stacks", target={"project_id": stack.tenant_id}, is_registered_policy=True
        )
    except exception.Forbidden:
        return False
    return bool(allowed)


def seal(value: str) -> str:
    """The value as it may be shown: only Heat's ``auth_encryption_key`` opens it. Repeated, it changes nothing."""
    if value.startswith(_SEALED):
        return value
    method, sealed = crypt.encrypt(value)
    return f"{_SEALED}{method}:{sealed}"


def unseal(value: str | None) -> str | None:
    """The value of `seal`, any other as it is; None for one that another cloud has sealed, since it is lost here."""
    if value is None or not value.startswith(_SEALED):
        return value
    method, _, sealed = value.removeprefix(_SEALED).partition(":")
    try:
        opened: str | None = crypt.decrypt(method, sealed)
    except exception.InvalidEncryptionKey:
        return None
    return opened


class KeepsSecrets(resource.Resource):  # type: ignore[misc]
    """A resource some of whose data is secret: whatever Heat takes of its data, and writes down, is sealed."""

    secret_data: ClassVar[frozenset[str]] = frozenset()

    def data(self) -> dict[str, Any]:
        """As Heat's, with secrets sealed. A stack that adopts the data finds them in it again."""
        found = super().data()
        return {name: seal(value) if name in self.secret_data else value for name, value in found.items()}

    def _secret(self, name: str) -> str | None:
        return unseal(super().data().get(name))
