# SPDX-License-Identifier: Apache-2.0
"""Key ring: the key that the API of one devcloud seals hidden values with."""

from devcloud.settings import Settings
from heat_workflow.store.keyring import KeyRing


def ensure_key_ring(settings: Settings) -> None:
    """Write a ring of one new key, unless the directory holds a ring."""
    if not settings.key_ring.exists():
        KeyRing().with_new_key().save(str(settings.key_ring))
