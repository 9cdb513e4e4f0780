# SPDX-License-Identifier: Apache-2.0
"""The credential: made once, kept closed, never shown."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from guest_agent.credential import (
    KEPT_MOST,
    add_secret,
    drop_newer,
    find_credential,
    make_credential,
    mark_enrolled,
    wipe_credential,
)
from guest_agent.state_dir import StateDir

AGENT = "0b6e3f5c-6f0b-4a51-9e5e-2f3a5e2d0c11"


def test_a_made_credential_is_on_the_disk_for_its_owner_alone(state: StateDir) -> None:
    made = make_credential(state.root, AGENT, "hwj1.x.y")
    path = Path(state.path, "credential")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.geteuid()
    assert find_credential(state.root) == made


def test_the_secret_has_256_bits_and_only_its_hash_is_told(state: StateDir) -> None:
    made = make_credential(state.root, AGENT, "hwj1.x.y")
    (secret,) = made.secrets
    assert len(secret.text) == 43
    assert secret.sha256 == hashlib.sha256(secret.text.encode()).hexdigest()
    assert made.token() == f"hwa1.{AGENT.replace('-', '')}.{secret.text}"
    assert secret.text not in repr(made)


def test_enrolled_is_remembered_with_the_same_secret(state: StateDir) -> None:
    made = make_credential(state.root, AGENT, "hwj1.x.y")
    mark_enrolled(state.root, made)
    found = find_credential(state.root)
    assert found is not None
    assert (found.enrolled, found.secrets) == (True, made.secrets)


def test_secrets_before_are_kept_but_not_for_ever(state: StateDir) -> None:
    credential = make_credential(state.root, AGENT, "hwj1.x.y")
    first = credential.secrets[0]
    credential = add_secret(state.root, credential)
    assert credential.secrets[1] == first
    assert find_credential(state.root) == credential
    for _ in range(30):
        credential = add_secret(state.root, credential)
    assert len(credential.secrets) == KEPT_MOST
    assert drop_newer(state.root, credential, 2).secrets == credential.secrets[2:]


def test_a_new_credential_keeps_the_one_before(state: StateDir) -> None:
    first = make_credential(state.root, AGENT, "hwj1.x.y")
    second = make_credential(state.root, AGENT, "hwj1.x.z")
    assert first.secrets != second.secrets
    assert first.secrets[0].text in Path(state.path, "credential.old").read_text()


def test_a_damaged_credential_is_set_aside(state: StateDir) -> None:
    make_credential(state.root, AGENT, "hwj1.x.y")
    path = Path(state.path, "credential")
    path.write_bytes(path.read_bytes()[:-1])
    assert find_credential(state.root) is None
    assert state.root.has("credential.damaged")


def test_a_credential_that_is_a_link_is_not_followed(state: StateDir, tmp_path: Path) -> None:
    make_credential(state.root, AGENT, "hwj1.x.y")
    os.rename(Path(state.path, "credential"), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", Path(state.path, "credential"))
    assert find_credential(state.root) is None


def test_wiping_leaves_no_secret(state: StateDir) -> None:
    make_credential(state.root, AGENT, "hwj1.x.y")
    make_credential(state.root, AGENT, "hwj1.x.z")
    wipe_credential(state.root)
    assert [name for name in state.root.names() if name.startswith("credential")] == []
