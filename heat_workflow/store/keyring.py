# SPDX-License-Identifier: Apache-2.0
"""Key ring: how hidden values rest in the database. AES-256-GCM, bound to the row they belong to.

The file holds named keys; the primary one seals, all of them unseal, so that keys can be rotated while old rows live.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from heat_workflow import errors

_NONCE = 12  # bytes, the size GCM is made for


@dataclasses.dataclass(frozen=True)
class KeyRing:
    """Keys by name, and which of them seals. An empty ring refuses hidden values."""

    primary: str | None = None
    keys: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, path: str | None) -> KeyRing:
        """The ring in the file. Invalid if others may read it or it is damaged; no path is an empty ring."""
        if path is None:
            return cls()
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
            held = json.loads(Path(path).read_text())
            keys = {name: base64.b64decode(key, validate=True) for name, key in held["keys"].items()}
            ring = cls(held["primary"], keys)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as exc:
            raise errors.Invalid(f"[secrets] key_file {path} cannot be used: {type(exc).__name__}") from exc
        if mode & 0o077:
            raise errors.Invalid(f"[secrets] key_file {path} may be read by others; chmod 600 it")
        if ring.primary not in keys or any(len(key) != 32 for key in keys.values()):
            raise errors.Invalid(f"[secrets] key_file {path}: the primary key is missing or a key is not 256 bits")
        return ring

    def with_new_key(self) -> KeyRing:
        """The ring with a fresh primary key."""
        name = f"k{len(self.keys) + 1}-{secrets.token_hex(4)}"
        return KeyRing(name, {**self.keys, name: secrets.token_bytes(32)})

    def save(self, path: str) -> None:
        """Write the ring, readable by its owner alone, whole or not at all."""
        held = {"primary": self.primary, "keys": {n: base64.b64encode(k).decode() for n, k in self.keys.items()}}
        fresh = f"{path}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(held, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)

    def seal(self, row: str, text: str) -> str:
        """The text encrypted; it can be read again only as the value of this row."""
        if self.primary is None:
            raise errors.Invalid(
                "hidden values need a key ring: run heat-workflow-manage key add and set [secrets] key_file",
                code="no-key",
            )
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(self.keys[self.primary]).encrypt(nonce, text.encode(), row.encode())
        return f"{self.primary}.{base64.b64encode(nonce + sealed).decode()}"

    def unseal(self, row: str, sealed: str) -> str:
        """The text. Unavailable if it was sealed for another row or by a key that is gone."""
        name, _, body = sealed.partition(".")
        try:
            raw = base64.b64decode(body)
            return AESGCM(self.keys[name]).decrypt(raw[:_NONCE], raw[_NONCE:], row.encode()).decode()
        except (InvalidTag, KeyError, ValueError) as exc:
            raise errors.Unavailable("a hidden value is unreadable: its key is gone or its row was moved") from exc

    def digest(self, text: str) -> str:
        """SHA-256 keyed by the oldest key, which rotation keeps: equal for equal text as long as the ring lives."""
        key = self.keys[min(self.keys)] if self.keys else b""
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
